// A libhailort that has a version and nothing else.

struct Version {
  unsigned major, minor, revision;
};

extern "C" __attribute__((visibility("default"))) int hailo_get_library_version(Version* version) {
  *version = {4, 23, 0};
  return 0;
}
