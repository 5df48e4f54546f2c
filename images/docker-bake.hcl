# From the project's folder: docker buildx bake -f images/docker-bake.hcl [TARGET ...] --push
# For this machine: --set '*.platform=linux/amd64' --load, as Docker's store takes one platform at a time.

# As ghcr.io/owner, to push there. Empty: names without one.
variable "REGISTRY" { default = "" }
variable "VERSION" { default = "0.1.0" }
# The commit, and where its sources are: labels.
variable "REVISION" { default = "" }
variable "SOURCE" { default = "" }

function "tag" {
  params = [name, suffix]
  result = ["${REGISTRY == "" ? "" : "${REGISTRY}/"}${name}:${VERSION}${suffix}"]
}

group "default" {
  targets = ["runtime", "device"]
}

target "runtime" {
  context    = "."
  dockerfile = "images/runtime/Dockerfile"
  target     = "runtime"
  platforms  = ["linux/amd64", "linux/arm64"]
  tags       = tag("hailo-inference", "")
  args = {
    VERSION  = VERSION
    REVISION = REVISION
    SOURCE   = SOURCE
  }
}

# Without ONNX Runtime, for machines that have a Hailo.
target "device" {
  inherits = ["runtime"]
  tags     = tag("hailo-inference", "-device")
  args     = { STAGE_OPTIONS = "--without-onnx" }
}

# The Hailo Dataflow Compiler, which the user adds, runs on x86-64 alone.
target "compiler" {
  context   = "images/compiler"
  platforms = ["linux/amd64"]
  tags      = tag("hailo-inference-compiler", "")
}
