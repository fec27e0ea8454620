// How C++ answers Rust: with an object, or with none and an error's message.

#pragma once

#include <cstring>
#include <exception>

#include <ATen/ATen.h>

// Both belong to the caller: the object was made by `new`, the message by `strdup`.
template <typename Work>
auto guarded(char **error, Work work) -> decltype(work()) {
  try {
    return work();
  } catch (const c10::Error &e) {
    *error = strdup(e.what_without_backtrace());
  } catch (const std::exception &e) {
    *error = strdup(e.what());
  } catch (...) {
    *error = strdup("an exception of an unknown type");
  }
  return nullptr;
}
