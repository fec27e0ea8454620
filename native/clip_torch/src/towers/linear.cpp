// Products with packed weights, as an operator that tracing records.
//
// libtorch has these products (oneDNN's), but tch binds none of them, and tracing refuses the types of
// their arguments. So there is one operator of our own, `image_zero_shot::linear_1`, which looks at the
// weight: its type and whether it is packed choose the kernel. One traced module serves all of them.

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string_view>

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "cpp.h"

namespace {

using at::Tensor;
using std::optional;
using std::string_view;
using Scalars = c10::List<optional<at::Scalar>>;

template <typename Signature>
c10::TypedOperatorHandle<Signature> find(const char *name, const char *overload = "") {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

// Ends with a number that goes up with the operator's arguments: a VM may hold an older copy of this
// library, which has registered its own.
constexpr auto operator_name = "image_zero_shot::linear_1";

// Names of oneDNN's activations for ours.
struct PostOperation {
  string_view name;
  string_view algorithm;
};

PostOperation post_operation(string_view activation) {
  if (activation == "none") return {"none", ""};
  if (activation == "silu") return {"swish", ""};
  if (activation == "gelu") return {"gelu", "none"};
  TORCH_CHECK(activation == "gelu_tanh", "no activation is called ", activation);
  return {"gelu", "tanh"};
}

Tensor activate(Tensor x, string_view activation) {
  if (activation == "silu") return at::silu_(x);
  if (activation == "gelu") return at::gelu_(x, "none");
  if (activation == "gelu_tanh") return at::gelu_(x, "tanh");
  return x;
}

// While one lives, oneDNN multiplies f32 with all digits, whatever another user of libtorch allows in this
// process (TF32, bf16). The setting is the process's, so the first one saves it and the last one
// restores it.
class AllDigits {
 public:
  AllDigits() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (living++ > 0) return;
    before = get();
    changed = before == at::Float32Precision::TF32 || before == at::Float32Precision::BF16;
    if (changed) set(at::Float32Precision::IEEE);
  }

  ~AllDigits() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (--living > 0 || !changed) return;
    try {
      // It may have been inherited from a wider setting, and is to follow that one again.
      set(at::Float32Precision::NONE);
      if (get() != before) set(before);
    } catch (...) {
    }
  }

 private:
  static constexpr auto backend = at::Float32Backend::MKLDNN;
  static constexpr auto operation = at::Float32Op::MATMUL;
  static inline std::mutex mutex;
  static inline int living = 0;
  static inline bool changed = false;
  static inline auto before = at::Float32Precision::NONE;

  static at::Float32Precision get() {
    return at::globalContext().float32Precision(backend, operation);
  }
  static void set(at::Float32Precision precision) {
    at::globalContext().setFloat32Precision(backend, operation, precision);
  }
};

// `_reorder_linear_weight` for no particular number of rows: the product takes any.
Tensor packed(const Tensor &weight) {
  static const auto op =
      find<Tensor(const Tensor &, optional<int64_t>)>("mkldnn::_reorder_linear_weight");
  return op.call(weight, std::nullopt);
}

Tensor packed_linear(const Tensor &x, const Tensor &weight, const optional<Tensor> &bias,
                     string_view activation) {
  static const auto op = find<Tensor(const Tensor &, const Tensor &, const optional<Tensor> &,
                                     string_view, Scalars, optional<string_view>)>(
      "mkldnn::_linear_pointwise");
  const auto post = post_operation(activation);
  return op.call(x, weight, bias, post.name, Scalars(), post.algorithm);
}

// Which instructions a loop may use is decided when the library is loaded.
#if defined(__x86_64__) && defined(__linux__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

// Bytes are unsigned, as oneDNN has no fast kernel for signed ones: this one is zero.
constexpr int32_t zero_byte = 128;

// A row as bytes around `zero_byte`, and what each unit of them is worth. A row with an infinite value or
// a NaN becomes NaN. The loops compare integers and call nothing, so that compilers use wide registers.
FOR_EVERY_PROCESSOR
void quantize_row(const float *row, int64_t length, uint8_t *bytes, float *scale) {
  uint32_t most = 0;
  for (int64_t i = 0; i < length; i++) {
    uint32_t bits;
    std::memcpy(&bits, row + i, sizeof(bits));
    most = std::max(most, bits & 0x7fffffffu);
  }
  float largest;
  std::memcpy(&largest, &most, sizeof(largest));
  // In this order of arguments a NaN stays one.
  *scale = std::max(largest / 127.0f, 1e-30f);
  const float factor = 1.0f / *scale;
  for (int64_t i = 0; i < length; i++) {
    // Added to 1.5 * 2^23, a small number is rounded and lies in the last bits.
    const float shifted = row[i] * factor + 12582912.0f;
    int32_t bits;
    std::memcpy(&bits, &shifted, sizeof(bits));
    bytes[i] = static_cast<uint8_t>(bits - 0x4b400000 + zero_byte);
  }
}

// Activations as bytes, with a scale for each row: a token that is large leaves the others their digits.
struct Quantized {
  Tensor values;
  Tensor scales;
};

Quantized quantized(const Tensor &x) {
  const auto length = x.size(-1), rows = x.numel() / std::max<int64_t>(length, 1);
  auto shape = x.sizes().vec();
  shape.back() = 1;
  const auto values = at::empty(x.sizes(), at::kByte), scales = at::empty(shape);
  const auto *from = x.const_data_ptr<float>();
  auto *to = values.mutable_data_ptr<uint8_t>();
  auto *scale = scales.mutable_data_ptr<float>();
  at::parallel_for(0, rows, std::max<int64_t>(32768 / std::max<int64_t>(length, 1), 1),
                   [&](int64_t begin, int64_t end) {
                     for (auto row = begin; row < end; row++)
                       quantize_row(from + row * length, length, to + row * length, scale + row);
                   });
  return {values, scales};
}

Tensor int8_packed(const Tensor &weight) {
  static const auto op =
      find<Tensor(Tensor, optional<c10::List<int64_t>>)>("onednn::qlinear_prepack");
  return op.call(weight, std::nullopt);
}

Tensor int8_linear(const Tensor &x, const Tensor &weight, const Tensor &scales,
                   const optional<Tensor> &bias, string_view activation) {
  static const auto op =
      find<Tensor(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, optional<Tensor>, double, int64_t,
                  optional<at::ScalarType>, string_view, Scalars, string_view)>(
          "onednn::qlinear_pointwise", "tensor");
  const auto q = quantized(x);
  const auto one = at::ones({1}), zero = at::full({1}, zero_byte, at::kLong);
  const auto zeros = at::zeros({scales.numel()}, at::kLong);
  const auto product = op.call(q.values, one, zero, weight, scales, zeros, std::nullopt, 1.0, 0,
                               at::kFloat, "none", Scalars(), "");
  product.mul_(q.scales);
  if (bias) product.add_(*bias);
  return activate(product, activation);
}

// `x W^T + b`, activated. The result is f32 on a CPU, or 16 bits where a packed weight of 16 bits is to be
// `narrow`: where another product follows at once. On a GPU it is of the weight's type.
Tensor linear(const Tensor &x, const Tensor &weight, const Tensor &scales,
              const optional<Tensor> &bias, string_view activation, bool narrow) {
  if (scales.numel() > 0 && x.numel() > 0)
    return int8_linear(x.contiguous(), weight, scales, bias, activation);
  const auto type = scales.numel() > 0 ? at::kFloat : weight.scalar_type();
  if (x.numel() == 0) {
    auto shape = x.sizes().vec();
    shape.back() = scales.numel() > 0 ? scales.numel() : weight.size(0);
    return at::empty(shape, x.options().dtype(narrow || !weight.is_mkldnn() ? type : at::kFloat));
  }
  const auto converted = x.to(type).contiguous();
  const at::NoTF32Guard no_tf32;
  if (!weight.is_mkldnn()) return activate(at::linear(converted, weight, bias), activation);
  if (type != at::kFloat) {
    const auto result = packed_linear(converted, weight, bias, activation);
    return narrow ? result : result.to(at::kFloat);
  }
  const AllDigits all_digits;
  return packed_linear(converted, weight, bias, activation);
}

}  // namespace

extern "C" {

// Makes the operator known. Not when the library is opened: a VM may open a newer copy of it, and
// libtorch ends the process where a static registration fails. The registration is never undone, as
// the older copy stays.
void image_zero_shot_register(char **error) {
  guarded(error, []() -> Tensor * {
    if (!c10::Dispatcher::singleton().findSchema({operator_name, ""})) {
      auto *library = new torch::Library(torch::Library::FRAGMENT, "image_zero_shot", std::nullopt,
                                         __FILE__, __LINE__);
      library->def("linear_1(Tensor x, Tensor weight, Tensor scales, Tensor? bias, str activation, "
                   "bool narrow) -> Tensor");
      library->impl("linear_1", torch::dispatch(c10::DispatchKey::CompositeExplicitAutograd,
                                                TORCH_FN(linear)));
    }
    return nullptr;
  });
}

Tensor *image_zero_shot_linear(const Tensor *x, const Tensor *weight, const Tensor *scales,
                               const Tensor *bias, const char *activation, bool narrow,
                               char **error) {
  return guarded(error, [&] {
    static const auto op =
        find<Tensor(const Tensor &, const Tensor &, const Tensor &, const optional<Tensor> &,
                    string_view, bool)>(operator_name);
    const auto biases = bias ? optional<Tensor>(*bias) : std::nullopt;
    return new Tensor(op.call(*x, *weight, *scales, biases, activation, narrow));
  });
}

Tensor *image_zero_shot_pack(const Tensor *weight, char **error) {
  return guarded(error, [&] {
    return new Tensor(weight->scalar_type() == at::kChar ? int8_packed(*weight) : packed(*weight));
  });
}

}
