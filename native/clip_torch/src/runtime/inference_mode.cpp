// PyTorch's inference mode for the calling thread.

#include <c10/core/InferenceMode.h>

#include "cpp.h"

extern "C" {

c10::InferenceMode *image_zero_shot_begin_inference(char **error) {
  return guarded(error, [] { return new c10::InferenceMode(); });
}

void image_zero_shot_end_inference(c10::InferenceMode *guard) { delete guard; }

}
