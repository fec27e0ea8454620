defmodule Image.ZeroShot.LibtorchTest do
  use ExUnit.Case, async: false

  import Image.ZeroShot.Packaging

  alias Image.ZeroShot.Build.Libtorch

  # Installs wheels of a few bytes, by pip and its checks, from a folder instead of the network.
  @moduletag :packaging
  @moduletag timeout: 120_000
  @wheel "torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl"

  setup do
    folder = folder!("libtorch")
    wheels = Path.join(folder, "wheels")
    File.mkdir_p!(wheels)
    hash = wheel!(Path.join(wheels, @wheel), contents())
    requirements = Path.join(folder, "libtorch.txt")
    File.write!(requirements, "torch==2.11.0 --hash=sha256:#{hash}\n")

    {:ok,
     wheels: wheels,
     requirements: requirements,
     cache: Path.join(folder, "cache"),
     root: Path.join(folder, "cache/libtorch-2.11.0-cpu")}
  end

  test "what a CPU needs is installed, and a second time nothing is done", context do
    assert {"", 0} = install(context)

    assert files(context.root) ==
             ~w(build-version include/torch/torch.h lib/libc10.so) ++
               ~w(lib/libtorch.so lib/libtorch_cpu.so licences/torch-2.11.0/LICENSE)

    assert File.read!(Path.join(context.root, "build-version")) == "2.11.0\n"
    assert File.read!(Path.join(context.root, "lib/libtorch.so")) =~ "INPUT(-ltorch_cpu)"
    assert parts(context) == []

    File.rm_rf!(context.wheels)
    assert {"", 0} = install(context)
  end

  test "for a GPU all libraries are installed", context do
    root = Path.join(context.cache, "libtorch-2.11.0-cuda")
    assert {"", 0} = install(%{context | root: root})
    assert File.read!(Path.join(root, "lib/libtorch.so")) == "needs cpu and cuda"
    assert "lib/libtorch_cuda.so" in files(root)
    refute "lib/libtorch_python.so" in files(root)
  end

  test "a wheel with another hash is refused", context do
    wheel!(Path.join(context.wheels, @wheel), [{"torch/lib/libtorch_cpu.so", "evil"} | contents()])

    assert {reason, 1} = install(context)
    assert reason =~ ~r/\Aexpected the wheels named in .*, got one with another hash\n\z/
    refute File.exists?(context.root)
    assert parts(context) == []
  end

  test "an index that cannot be reached is named as the reason", context do
    reason = "expected to reach PyPI, or the index pip is set to, and could not\n"
    assert {^reason, 1} = install(context, index(closed_port()))
  end

  test "two at once both succeed", context do
    tasks = for _ <- 1..2, do: Task.async(fn -> install(context) end)
    assert Task.await_many(tasks, 60_000) == [{"", 0}, {"", 0}]
    assert parts(context) == []
  end

  test "what a killed installation left is never taken for libtorch, and goes", context do
    {:ok, listener} = :gen_tcp.listen(0, active: false, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(listener)
    task = Task.async(fn -> install(context, index(port)) end)

    # pip is waiting for an answer that does not come: the installation has begun.
    {:ok, _connection} = :gen_tcp.accept(listener, 30_000)
    assert [part] = parts(context)
    kill!(context)
    assert {"", 137} = Task.await(task, 30_000)
    assert parts(context) == [part]
    refute File.exists?(context.root)

    assert {"", 0} = install(context)
    assert parts(context) == []
    assert File.exists?(context.root)
  end

  describe "variables:" do
    test "a LIBTORCH that is none", %{cache: folder} do
      with_env(%{"LIBTORCH" => folder}, fn ->
        message =
          "expected LIBTORCH to hold lib/libtorch_cpu.so and include/torch, found none in "

        assert_raise Mix.Error, message <> folder, fn -> Libtorch.ensure!(folder) end
      end)
    end

    test "an unknown LIBTORCH_VARIANT", %{cache: folder} do
      with_env(%{"LIBTORCH" => nil, "LIBTORCH_VARIANT" => "rocm"}, fn ->
        message = "expected LIBTORCH_VARIANT to be cpu or cuda, got: rocm"
        assert_raise Mix.Error, message, fn -> Libtorch.ensure!(folder) end
      end)
    end

    test "no python3", %{cache: folder} do
      env = %{
        "LIBTORCH" => nil,
        "LIBTORCH_VARIANT" => nil,
        "PATH" => "",
        "XDG_CACHE_HOME" => folder
      }

      with_env(env, fn ->
        message =
          "libtorch 2.11.0 is not installed: expected python3 in PATH, found none; mend that, " <>
            "or set LIBTORCH to the folder of a libtorch 2.11.0"

        assert_raise Mix.Error, message, fn -> Libtorch.ensure!(folder) end
      end)
    end
  end

  defp install(context) do
    install(context, [{"PIP_NO_INDEX", "1"}, {"PIP_FIND_LINKS", context.wheels}])
  end

  defp install(context, env) do
    script = Path.join(root(), "native/build/libtorch.py")
    # An exec, so that the process is Python itself. Its stdout alone: progress goes to stderr.
    command = ~s(echo $$ > "$0.pid"; exec python3 "$@" 2> "$0.log")
    arguments = ["-c", command, context.requirements, script, context.root, "x86_64"]
    # One, not none: it is when trying again that pip says why.
    env = [{"PIP_RETRIES", "1"} | env]
    System.cmd("sh", arguments ++ [context.requirements], env: env)
  end

  defp index(port) do
    [{"PIP_INDEX_URL", "http://127.0.0.1:#{port}/simple"}, {"PIP_FIND_LINKS", ""}]
  end

  defp kill!(context) do
    pid = String.trim(File.read!(context.requirements <> ".pid"))
    run!("kill", ["-9", pid], [])
  end

  defp contents do
    [
      {"torch/lib/libtorch_cpu.so", "cpu"},
      {"torch/lib/libc10.so", "c10"},
      {"torch/lib/libtorch.so", "needs cpu and cuda"},
      {"torch/lib/libtorch_cuda.so", "cuda"},
      {"torch/lib/libtorch_python.so", "python"},
      {"torch/include/torch/torch.h", "header"},
      {"torch/__init__.py", "python"},
      {"torch-2.11.0.dist-info/licenses/LICENSE", "licence"},
      {"torch-2.11.0.dist-info/METADATA",
       "Metadata-Version: 2.1\nName: torch\nVersion: 2.11.0\n"},
      {"torch-2.11.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n"},
      {"torch-2.11.0.dist-info/RECORD", ""}
    ]
  end

  defp wheel!(path, contents) do
    entries = for {name, data} <- contents, do: {String.to_charlist(name), data}
    {:ok, _} = :zip.create(String.to_charlist(path), entries)
    :sha256 |> :crypto.hash(File.read!(path)) |> Base.encode16(case: :lower)
  end

  defp files(root) do
    for path <- Path.wildcard(Path.join(root, "**")),
        not File.dir?(path),
        do: Path.relative_to(path, root)
  end

  defp parts(context) do
    Path.wildcard(Path.join(context.cache, ".*.part-*"), match_dot: true)
  end

  defp closed_port do
    {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(listener)
    :ok = :gen_tcp.close(listener)
    port
  end
end
