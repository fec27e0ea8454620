defmodule Image.ZeroShot.CargoTest do
  use ExUnit.Case, async: false

  import Image.ZeroShot.Packaging

  # A project with a crate of one line, built by the compiler of this one.
  @moduletag :packaging
  @moduletag timeout: 120_000

  setup do
    project = folder!("cargo")
    File.mkdir_p!(Path.join(project, "native/tiny/src"))
    File.mkdir_p!(Path.join(project, ".cargo"))

    write!(project, "mix.exs", """
    Code.require_file(#{inspect(Path.join(root(), "native/build/cargo.exs"))})

    defmodule Tiny.MixProject do
      use Mix.Project
      def project, do: [app: :tiny, compilers: [:cargo], cargo_crates: ["tiny"]]
    end
    """)

    write!(project, "Cargo.toml", """
    [workspace]
    members = ["native/tiny"]
    resolver = "3"
    """)

    write!(project, "Cargo.lock", """
    version = 4

    [[package]]
    name = "tiny"
    version = "0.1.0"
    """)

    write!(project, "native/tiny/Cargo.toml", """
    [package]
    name = "tiny"
    version = "0.1.0"
    edition = "2024"

    [lib]
    crate-type = ["cdylib"]
    """)

    host = String.trim(run!("rustc", ["--print", "host-tuple"], cd: project))
    {:ok, project: project, host: host}
  end

  test "what was built is installed, wherever cargo's variables put it", context do
    assert build!(context, "plain", []) == "plain"

    for {name, value} <- [
          {"CARGO_BUILD_TARGET", context.host},
          {"CARGO_TARGET_DIR", "elsewhere"},
          {"CARGO_BUILD_TARGET_DIR", ~S(with "quotes" and \ spaces)},
          {"CARGO_PROFILE_RELEASE_STRIP", "true"},
          {"CARGO_PROFILE_RELEASE_PANIC", "abort"},
          {"RUSTFLAGS", "-C debuginfo=1"}
        ],
        do: assert(build!(context, name, [{name, value}]) == name)
  end

  test "what was built is installed, wherever cargo's configuration puts it", context do
    assert build!(context, "plain", []) == "plain"

    for {mark, setting} <- [
          {"target", ~s(target = "#{context.host}")},
          {"targets", ~s(target = ["#{context.host}"])},
          {"target-dir", ~s(target-dir = "elsewhere")}
        ] do
      write!(context.project, ".cargo/config.toml", "[build]\n#{setting}\n")
      assert build!(context, mark, []) == mark
    end
  end

  test "a build that fails leaves what is installed, and is an error", context do
    build!(context, "plain", [])
    write!(context.project, "native/tiny/src/lib.rs", "nonsense")
    assert {output, 1} = compile(context, [])
    assert output =~ "cargo build ended with status 101"
    assert installed(context) == "plain"
  end

  test "a build without a library, and one with several, are errors", context do
    build!(context, "plain", [])
    artefact = ~s({"reason":"compiler-artifact","target":{"name":"tiny","src_path":"lib.rs"},)

    for {printed, expected} <- [
          {[], "expected cargo to build a library of the crate tiny, it names none"},
          {for(arch <- ["a", "b"], do: ~s(#{artefact}"filenames":["/#{arch}/libtiny.so"]})),
           "expected cargo to build tiny once, it did for several targets: " <>
             "/a/libtiny.so, /b/libtiny.so; name one in CARGO_BUILD_TARGET"}
        ] do
      folder = cargo_that_prints!(context.project, printed)

      assert {output, 1} =
               compile(context, [{"PATH", folder <> ":" <> System.fetch_env!("PATH")}])

      assert output =~ expected
      assert installed(context) == "plain"
    end
  end

  # Returns what is in the library that is installed then.
  defp build!(context, mark, env) do
    write!(context.project, "native/tiny/src/lib.rs", """
    #[unsafe(no_mangle)]
    pub static MARK: [u8; 50] = *b"#{String.pad_trailing("mark<#{mark}>", 50)}";
    """)

    {output, status} = compile(context, env)
    assert status == 0, output
    installed(context)
  end

  defp installed(context) do
    [mark] =
      Regex.run(~r/mark<([^>]*)>/, File.read!(Path.join(context.project, "priv/tiny.so")),
        capture: :all_but_first
      )

    mark
  end

  defp compile(context, env) do
    own =
      for name <- ~w(CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR CARGO_BUILD_TARGET RUSTFLAGS),
          do: {name, nil}

    {_, libtorch} = List.keyfind(shared_build(), "LIBTORCH", 0)
    env = own ++ [{"LIBTORCH", libtorch}, {"MIX_ENV", "prod"}] ++ env
    run("mix", ["compile"], cd: context.project, env: env)
  end

  defp cargo_that_prints!(project, lines) do
    folder = Path.join(project, "bin")
    File.mkdir_p!(folder)
    write!(folder, "cargo", ["#!/bin/sh\ncat <<'END'\n", Enum.map(lines, &[&1, ?\n]), "END\n"])
    File.chmod!(Path.join(folder, "cargo"), 0o755)
    folder
  end

  defp write!(folder, name, content), do: File.write!(Path.join(folder, name), content)
end
