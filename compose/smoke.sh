#!/usr/bin/env bash
set -euo pipefail
export LC_ALL=C # numbers with a decimal point
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
  cat << 'END'
Asks a running engine what its clients rely on, and compares its answer to a recorded window with the trained model's.

  compose/smoke.sh [options] [URL]          by default http://127.0.0.1:9000

  --expect onnx|stub|hailo   what shall answer; by default whatever does
  --model FOLDER             model.json and golden vectors of the model that is served; by default the shipped one
  --wait SECONDS             for the engine to be ready, and Prometheus to have scraped it; by default 0
  --prometheus URL           also whether that watches the engine, with all of our rules
  --edgeinfer URL            also whether that service sees the engine

The environment's API_KEY is sent where it is set. Takes bash, curl, awk and od, and nothing that they do not bring.
Each check is a line, ok or FAIL. Exits with 0, with 1 when a check failed, with 2 when it was asked wrongly.
END
}

url=http://127.0.0.1:9000 expect='' model=$project/artifacts/tcn_encoder/1.0.0 wait_s=0 prometheus='' edgeinfer=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit ;;
    --expect | --model | --wait | --prometheus | --edgeinfer)
      [ $# -gt 1 ] || { echo "$1 takes a value: compose/smoke.sh --help" >&2 && exit 2; }
      case $1 in
        --expect) expect=$2 ;;
        --model) model=$2 ;;
        --wait) wait_s=$2 ;;
        --prometheus) prometheus=${2%/} ;;
        --edgeinfer) edgeinfer=${2%/} ;;
      esac
      shift 2
      ;;
    http://* | https://*) url=${1%/} && shift ;;
    *) echo "$1 is no option and no URL: compose/smoke.sh --help" >&2 && exit 2 ;;
  esac
done
case $expect in '' | onnx | stub | hailo) ;; *) echo "--expect takes onnx, stub or hailo, not $expect" >&2 && exit 2 ;; esac
[[ $wait_s =~ ^(0|[1-9][0-9]*)$ ]] || { echo "--wait takes seconds, not $wait_s" >&2 && exit 2; }
for file in model.json golden_windows.f32 golden_latent.f32 golden_motif_probs.f32; do
  [ -r "$model/$file" ] || { echo "$model/$file cannot be read: --model names the folder of a model" >&2 && exit 2; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
key=${API_KEY:-}
key=${key%%,*} # the engine takes several
[ -z "$key" ] || printf 'header = "X-API-Key: %s"\n' "$key" > "$work/key" # not on the command line, which others can read
touch "$work/key"

# ask METHOD PATH [curl's options]: the answer's status in $status, its head and body in files.
ask() {
  local method=$1 path=$2
  shift 2
  : > "$work/body" && : > "$work/head"
  status=$(curl -sS -m 10 -K "$work/key" -X "$method" "$@" -o "$work/body" -D "$work/head" -w '%{http_code}' \
    "$url$path" 2> "$work/error") || status="no answer ($(tr -d '\n' < "$work/error"))"
}
json='Content-Type: application/json'
binary='Content-Type: application/octet-stream'

# header NAME: its value in the last answer, empty where it is not there.
header() { tr -d '\r' < "$work/head" | awk -v name="$1:" 'tolower($1) == tolower(name) { sub(/^[^:]*: */, ""); print; exit }'; }
# has TEXT: whether the last answer's body has it.
has() { grep -qF -- "$1" "$work/body"; }
# numbers FIELD: those of an array in the last answer's body, a line each.
numbers() { sed -n "s/.*\"$1\":\[\([^]]*\)\].*/\1/p" "$work/body" | tr ',' '\n' | awk 1; }
# floats FILE FIRST COUNT: float32 of a file, a line each.
floats() { od -An -v -t f4 -w4 --endian=little -j $(($2 * 4)) -N $(($3 * 4)) "$1" | tr -d ' '; }

# What a check finds wrong it says here; nothing said is well.
wrong=''
wrong() { wrong=${wrong:+$wrong; }$1; }
is_200() { [ "$status" = 200 ] || wrong "status $status, expected 200"; }

failed=0
# check NAME FUNCTION: one line.
check() {
  wrong='' found=''
  "$2"
  if [ -z "$wrong" ]; then
    echo "ok    $1${found:+: $found}"
  else
    echo "FAIL  $1: $wrong"
    failed=$((failed + 1))
  fi
}

# agrees GOT EXPECTED COSINE TIE: whether 64 latents and 12 motif scores, a line each, are those expected: the latents
# within a cosine, and the best motif the same unless the expected two best are nearer than a tie.
agrees() {
  wrong_numbers=$(awk -v smallest="$3" -v tie="$4" '
    !expects { got[FNR] = $1; count = FNR; next }
    { expected[FNR] = $1 }
    END {
      if (count != 76) { print count + 0 " numbers, expected 64 and 12"; exit }
      for (i = 1; i <= 76; i++) if (got[i] !~ /^-?[0-9.]+([eE][-+]?[0-9]+)?$/) { print got[i] " is no number"; exit }
      for (i = 1; i <= 64; i++) { both += got[i] * expected[i]; a += got[i] ^ 2; b += expected[i] ^ 2 }
      cosine = a > 0 ? both / sqrt(a * b) : 0
      if (cosine < smallest) { printf "latent cosine %.5f, expected %s at least\n", cosine, smallest; exit }
      # Cosines do not see a factor, which no quantisation brings.
      if (sqrt(a / b) < 0.9 || sqrt(a / b) > 1.1) { printf "latent %.2f times as long as expected\n", sqrt(a / b); exit }
      best = top = second = 0
      for (i = 65; i <= 76; i++) {
        sum += got[i]
        if (best == 0 || got[i] > got[best]) best = i
        if (top == 0 || expected[i] > expected[top]) { second = top; top = i }
        else if (second == 0 || expected[i] > expected[second]) second = i
      }
      if (sum < 0.999 || sum > 1.001) { printf "motif scores add up to %.3f\n", sum; exit }
      if (best != top && expected[top] - expected[second] >= tie) print "best motif " best - 65 ", expected " top - 65
    }' "$1" expects=1 "$2")
  [ -z "$wrong_numbers" ] || wrong "$wrong_numbers"
}
# The limits of the engine's own golden check, by what answered.
agrees_with_model() {
  case $backend in
    onnx) agrees "$1" "$work/golden" 0.9999 0 ;;
    hailo) agrees "$1" "$work/golden" 0.995 0.1 ;;
    stub) agrees "$1" "$1" 0.9999 0 ;; # made up: only its shape can be looked at
    *) wrong "X-Inference-Backend is '$backend'" ;;
  esac
}

healthy() {
  ask GET /healthz
  is_200
  for field in ok status model version uptime_s config_version hef_sha256 expected_sha256 config_ok device mode fallback \
    latency_ms contract contract_compatible level warm; do
    has "\"$field\":" || wrong "has no $field"
  done
  for fact in '"window_len":100' '"channels":9' '"latent_dims":64' '"motif_classes":12'; do
    has "$fact" || wrong "does not say $fact"
  done
  found=$(sed -n 's/.*"status":"\([^"]*\)".*/\1/p' "$work/body")
}
healthy_by_head() {
  ask HEAD /healthz --head
  is_200
}
ready() {
  local until=$((SECONDS + wait_s))
  while ask GET /readyz && [ "$status" != 200 ] && [ $SECONDS -lt $until ]; do sleep 0.2; done
  is_200
  [[ $status == no* ]] || has '"ready":true' || wrong "says $(head -c 300 "$work/body")"
}
answers_json() {
  ask POST /infer -H "$json" --data-binary @"$work/window.json"
  is_200
  { numbers latent && numbers motif_scores; } > "$work/result"
  agrees_with_model "$work/result"
}
answers_binary() {
  ask POST /infer -H "$binary" -H 'Accept: application/octet-stream' --data-binary @"$work/window"
  is_200
  floats "$work/body" 0 76 > "$work/result.binary"
  agrees_with_model "$work/result.binary"
  [ -n "$wrong" ] || agrees "$work/result.binary" "$work/result" 0.999999 0
}
answers_many() {
  ask POST /infer -H "$binary" -H 'Accept: application/octet-stream' --data-binary @"$work/windows"
  is_200
  floats "$work/body" 76 1000 > "$work/result.second"
  agrees "$work/result.second" "$work/result" 0.999999 0 # the same window twice
}
names_backend() {
  found=$backend
  case $backend in onnx | stub | hailo) ;; *) wrong "X-Inference-Backend is '$backend'" ;; esac
  [ -z "$expect" ] || [ "$backend" = "$expect" ] || wrong "$backend answers, expected $expect"
}
names_model() {
  found=$model_sha
  if [ "$backend" = stub ]; then
    [ -n "$model_sha" ] || wrong 'has no X-Model-Sha256'
  elif ! [[ $model_sha =~ ^[0-9a-f]{12}$ ]]; then
    wrong "X-Model-Sha256 is '$model_sha', expected 12 hex digits"
  else
    grep -q "\"$model_sha" "$model/model.json" || wrong "$model_sha is no file of $model: --model names the folder of what is served"
  fi
}
has_heads() {
  ask POST /infer -H "$json" -H 'X-Request-ID: smoke-1' -H 'X-Correlation-ID: smoke-2' --data-binary @"$work/window.json"
  [ "$(header X-Request-ID)" = smoke-1 ] || wrong "X-Request-ID is '$(header X-Request-ID)', sent was smoke-1"
  [ "$(header X-Correlation-ID)" = smoke-2 ] || wrong "X-Correlation-ID is '$(header X-Correlation-ID)', sent was smoke-2"
  [ -n "$(header X-Config-Version)" ] || wrong 'has no X-Config-Version'
  [[ $(header Server-Timing) =~ queue\;dur=[0-9.]+.*infer\;dur=[0-9.]+ ]] || wrong "Server-Timing is '$(header Server-Timing)'"
}
refuses_wrong_shape() {
  ask POST /infer -H "$json" -d '{"x":[[0.125,0.25]]}'
  [ "$status" = 400 ] || wrong "status $status, expected 400"
  has '"error":"invalid_window"' || wrong 'error is not invalid_window'
  for field in detail model_available request_id; do has "\"$field\":" || wrong "has no $field"; done
  ! has 0.125 || wrong 'repeats what was sent'
}
answers_by_alias() {
  for alias in /infer/infer /; do
    ask POST "$alias" -H "$json" --data-binary @"$work/window.json"
    { numbers latent && numbers motif_scores; } > "$work/result.alias"
    [ "$status" = 200 ] || wrong "POST $alias has status $status"
    cmp -s "$work/result" "$work/result.alias" || wrong "POST $alias does not answer as POST /infer"
  done
}
names_methods() {
  ask GET /infer
  [ "$status" = 405 ] || wrong "status $status, expected 405"
  [[ $(header Allow) == *POST* ]] || wrong "Allow is '$(header Allow)'"
}
encodes() {
  sed 's/^{"x"/{"imu_window"/' "$work/window.json" > "$work/window.encode.json"
  ask POST /encode -H "$json" --data-binary @"$work/window.encode.json"
  is_200
  numbers latent_embedding > "$work/latent.encode"
  head -64 "$work/result" | cmp -s - "$work/latent.encode" || wrong 'latent_embedding is not the latent of /infer'
  for field in model_version accuracy; do has "\"$field\":" || wrong "has no $field"; done
}
tests_itself() {
  ask POST /test
  if [ "$status" = 404 ]; then
    found='off, as ENABLE_TEST_ENDPOINTS=false makes it'
    return
  fi
  is_200
  for fact in '"test_status":"success"' '"latent_shape":[64]' '"motif_shape":[12]' '"latent_range":' '"motif_range":' \
    '"inference_time_ms":'; do
    has "$fact" || wrong "does not say $fact"
  done
}
# The names that dashboards of the older sidecar ask for and that are there without a device.
has_metrics() {
  ask GET /metrics
  is_200
  [[ $(header Content-Type) == 'text/plain; version=0.0.4'* ]] || wrong "Content-Type is '$(header Content-Type)'"
  for name in hailo_inference_requests_total hailo_inference_duration_seconds hailo_inference_errors_total \
    hailo_samples_processed_total hailo_model_loaded hailo_model_info hailo_build_info hailo_config_ok \
    hailo_device_temperature_celsius hailo_device_utilization_percent hailo_sidecar_start_time_seconds \
    hailo_health_checks_total hailo_http_requests_total hailo_http_request_duration_seconds; do
    grep -q "^# TYPE $name " "$work/body" || wrong "has no $name"
  done
  grep -q '^hailo_inference_requests_total{.*operation="tcn_vae_inference".*} ' "$work/body" || wrong 'counts no tcn_vae_inference'
  grep -q '^hailo_inference_duration_seconds_bucket{.*le="0.045".*} ' "$work/body" || wrong 'has no edge at 0.045'
}
has_openmetrics() {
  ask GET /metrics -H 'Accept: application/openmetrics-text; version=1.0.0'
  is_200
  [ "$(tail -n 1 "$work/body")" = '# EOF' ] || wrong 'does not end with # EOF'
}
speaks_v2() {
  for path in /v2/health/live /v2/health/ready; do
    ask GET "$path"
    [ "$status" = 200 ] || wrong "GET $path has status $status"
  done
  ask GET /v2
  for field in name version extensions; do has "\"$field\":" || wrong "GET /v2 has no $field"; done
}
asks_for_a_key() {
  local with_key=$work/key
  : > "$with_key"
  ask POST /infer -H "$json" --data-binary @"$work/window.json"
  printf 'header = "X-API-Key: %s"\n' "$key" > "$with_key"
  [ "$status" = 401 ] || wrong "status $status without a key, expected 401"
}

# prometheus_says EXPRESSION: the rows of an instant query, a value a line.
prometheus_says() {
  curl -sS -m 10 -G "$prometheus/api/v1/query" --data-urlencode "query=$1" 2> /dev/null |
    grep -o '"value":\[[^]]*\]' | sed 's/.*"\([^"]*\)"\]/\1/' || true
}
is_scraped() {
  local until=$((SECONDS + wait_s)) up
  while up=$(prometheus_says 'min(up{job="hailo-inference"})') && [ "$up" != 1 ] && [ $SECONDS -lt $until ]; do sleep 0.2; done
  found="$(prometheus_says 'count(up{job="hailo-inference"})') targets"
  case $up in
    1) ;;
    0) wrong 'a target of job hailo-inference is down' ;;
    *) wrong "$prometheus knows no target of job hailo-inference" ;;
  esac
}
has_rules() {
  local rules
  rules=$(curl -sS -m 10 "$prometheus/api/v1/rules" 2> /dev/null || true)
  while read -r name; do
    [[ $rules == *"\"name\":\"$name\""* ]] || wrong "has no rule $name"
  done < <(sed -n 's/^ *- \(alert\|record\): //p' "$project"/compose/prometheus/rules/*.yml | sort -u)
  [[ $rules != *'"health":"err"'* ]] || wrong 'cannot evaluate a rule'
}
# One of its two services tells what it sees; the other only that it lives.
sees_engine() {
  status=$(curl -sS -m 10 -H 'Accept: application/json' -o "$work/body" -w '%{http_code}' "$edgeinfer/healthz" 2> "$work/error") ||
    status="no answer ($(tr -d '\n' < "$work/error"))"
  is_200
  for part in hailo_backend inference_capability; do
    ! has "\"$part\":" || grep -o "\"$part\":{[^}]*}" "$work/body" | grep -q '"status":"healthy"' || wrong "says that $part is not healthy"
  done
}

head -c 3600 "$model/golden_windows.f32" > "$work/window"
cat "$work/window" "$work/window" > "$work/windows"
od -An -v -t f4 -w36 --endian=little "$work/window" |
  awk '{ printf "%s", (NR > 1 ? ",[" : "{\"x\":[["); for (i = 1; i <= NF; i++) printf "%s%s", (i > 1 ? "," : ""), $i; printf "]" }
    END { print "]}" }' > "$work/window.json"
{ floats "$model/golden_latent.f32" 0 64 && floats "$model/golden_motif_probs.f32" 0 12; } > "$work/golden"

echo "$url"
check 'GET /readyz' ready
case $status in no*) exit 1 ;; esac
check 'GET /healthz' healthy
check 'HEAD /healthz' healthy_by_head
ask POST /infer -H "$json" --data-binary @"$work/window.json"
backend=$(header X-Inference-Backend) model_sha=$(header X-Model-Sha256)
check 'who answers' names_backend
check 'which model' names_model
check 'POST /infer, JSON' answers_json
check 'POST /infer, binary' answers_binary
check 'POST /infer, two windows' answers_many
check 'POST /infer/infer and POST /' answers_by_alias
check 'heads of an answer' has_heads
check 'a wrong shape' refuses_wrong_shape
check 'GET /infer' names_methods
check 'POST /encode' encodes
check 'POST /test' tests_itself
check 'GET /metrics' has_metrics
check 'GET /metrics, OpenMetrics' has_openmetrics
check '/v2' speaks_v2
[ -z "$key" ] || check 'without the key' asks_for_a_key
[ -z "$prometheus" ] || check 'Prometheus scrapes it' is_scraped
[ -z "$prometheus" ] || check 'Prometheus has the rules' has_rules
[ -z "$edgeinfer" ] || check 'EdgeInfer sees it' sees_engine

[ $failed = 0 ] || { echo "$failed failed" && exit 1; }
