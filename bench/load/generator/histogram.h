// A log-linear histogram of nanoseconds. ../histogram.ts reads its buckets.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ostream>
#include <vector>

namespace load {

/// Values below 2^11 have a bucket each; above, every power of two is cut into 2^10: three significant digits.
class Histogram {
 public:
  Histogram() : counts_(kBuckets) {}

  void Record(int64_t value_ns) {
    const uint64_t value = static_cast<uint64_t>(std::clamp<int64_t>(value_ns, 0, kLargest));
    const int shift = value < (2u << kBits) ? 0 : 63 - __builtin_clzll(value) - kBits;
    counts_[(static_cast<size_t>(shift) << kBits) + (value >> shift)]++;
    sum_ns_ += static_cast<double>(value);
    max_ns_ = std::max(max_ns_, value);
  }

  /// As JSON. The buckets that are not empty, each with its index.
  void Print(std::ostream& out) const {
    out << "{\"maxNs\":" << max_ns_ << ",\"sumNs\":" << sum_ns_ << ",\"buckets\":[";
    const char* comma = "";
    for (size_t i = 0; i < counts_.size(); i++) {
      if (counts_[i] == 0) continue;
      out << comma << '[' << i << ',' << counts_[i] << ']';
      comma = ",";
    }
    out << "]}";
  }

 private:
  static constexpr int kBits = 10, kLargestShift = 30;
  static constexpr int64_t kLargest = (int64_t{2} << (kBits + kLargestShift)) - 1;  // 36 minutes
  static constexpr size_t kBuckets = size_t{kLargestShift + 2} << kBits;

  std::vector<uint64_t> counts_;
  double sum_ns_ = 0;
  uint64_t max_ns_ = 0;
};

}  // namespace load
