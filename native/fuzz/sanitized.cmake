# A toolchain for CMake: C that AddressSanitizer and libFuzzer can watch. Flags in CFLAGS would reach
# the C of build scripts too, which are linked without them.
set(CMAKE_C_COMPILER clang)
add_compile_options("$<$<COMPILE_LANGUAGE:C>:-g;-fsanitize=address,fuzzer-no-link>")
