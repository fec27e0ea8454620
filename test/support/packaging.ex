defmodule Image.ZeroShot.Packaging do
  @moduledoc false
  # Throw-away folders and projects, and commands run in them as a user would.

  import ExUnit.Callbacks, only: [on_exit: 1]

  def root, do: Path.expand("../..", __DIR__)
  def sample, do: Path.join(root(), "priv/samples/dog.jpg")

  # Outside the checkout, so that nothing in it is found by looking upwards. The same at every run:
  # cargo keeps what it built apart by path, and would keep it for ever.
  def folder!(name) do
    name = "image_zero_shot-test-#{:erlang.phash2(root())}-#{name}"
    path = Path.join(System.tmp_dir!(), name)
    File.rm_rf!(path)
    File.mkdir_p!(path)
    on_exit(fn -> File.rm_rf!(path) end)
    path
  end

  # Everything git would take from the checkout as it lies here, in a repository of its own.
  def repository!(folder) do
    path = Path.join(folder, "image_zero_shot.git")

    git = [
      "--git-dir=#{path}",
      "--work-tree=#{root()}",
      "-c",
      "user.name=t",
      "-c",
      "user.email=t"
    ]

    run!("git", ["init", "--quiet", "--bare", path], cd: folder)
    run!("git", git ++ ["add", "--all"], cd: root())
    run!("git", git ++ ["commit", "--quiet", "--message", "as it lies here"], cd: root())
    path
  end

  def consumer!(folder) do
    project = Path.join(folder, "consumer")
    File.cp_r!(Path.join(root(), "test/fixtures/consumer"), project)
    project
  end

  # With the build of this checkout at hand: the same libtorch by the same name, so that cargo finds
  # its bindings compiled. Those take minutes, everything else seconds.
  def shared_build do
    target = System.get_env("CARGO_TARGET_DIR", "target")

    [
      {"MIX_ENV", "prod"},
      {"LIBTORCH", System.get_env("LIBTORCH") || Path.join(root(), "native/build/libtorch")},
      {"CARGO_TARGET_DIR", Path.expand(target, root())}
    ]
  end

  # For code that reads the environment of this VM; the test must not be async.
  def with_env(variables, function) do
    before = Map.new(variables, fn {name, _} -> {name, System.get_env(name)} end)

    try do
      System.put_env(variables)
      function.()
    after
      System.put_env(before)
    end
  end

  def run!(command, arguments, options) do
    case run(command, arguments, options) do
      {output, 0} -> output
      {output, status} -> raise "#{command} ended with status #{status}:\n#{output}"
    end
  end

  def run(command, arguments, options) do
    System.cmd(command, arguments, [stderr_to_stdout: true] ++ options)
  end
end
