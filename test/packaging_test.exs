defmodule Image.ZeroShot.PackagingTest do
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Image.ZeroShot.Packaging

  alias Mix.Tasks.Compile.Cargo

  @moduletag :packaging
  @moduletag timeout: 600_000

  describe "another project" do
    test "uses this one as a path: dependency, and its release can be moved anywhere" do
      folder = folder!("path")
      project = consumer!(folder)
      env = [{"DEPENDENCY", "path:#{root()}"}, {"PICTURE", sample()} | shared_build()]
      assert run!("mix", ["run", "--no-halt"], cd: project, env: env) =~ "label: dog\n"

      run!("mix", ["release", "--quiet"], cd: project, env: env)
      release = Path.join(folder, "moved")
      File.rename!(Path.join(project, "_build/prod/rel/consumer"), release)
      File.rm_rf!(project)

      output = run!(Path.join(release, "bin/consumer"), ["start"], cd: folder, env: bare(folder))
      assert output =~ "label: dog\n"
      libraries = Regex.scan(~r/^library: (.*)$/m, output, capture: :all_but_first)
      assert Enum.reject(List.flatten(libraries), &String.starts_with?(&1, release)) == []
    end

    test "uses this one as a git: dependency" do
      folder = folder!("git")
      env = [{"DEPENDENCY", "git:file://#{repository!(folder)}"} | shared_build()]
      project = consumer!(folder)
      run!("mix", ["deps.get"], cd: project, env: env)

      built = run!("mix", ["compile"], cd: project, env: env)
      refute built =~ "Compiling torch-sys"

      env = [{"PICTURE", sample()} | env]
      assert run!("mix", ["run", "--no-halt"], cd: project, env: env) =~ "label: dog\n"
    end
  end

  describe "a second build" do
    test "finds nothing to do, and says nothing" do
      run!("mix", ["compile"], cd: root())
      assert run!("mix", ["compile"], cd: root()) == ""
      File.cd!(root(), fn -> assert Cargo.run([]) == {:noop, []} end)
    end

    test "puts back what is missing in priv" do
      File.cd!(root(), fn ->
        File.rm!("priv/nif.so")
        capture_io(fn -> assert Cargo.run([]) == {:ok, []} end)
        assert File.regular?("priv/nif.so")
        assert Path.wildcard("priv/*.new*") == []
      end)
    end
  end

  describe "the native libraries" do
    @describetag skip: not match?({:unix, :linux}, :os.type())

    test "are for CPU and GPU, and look for libtorch beside themselves" do
      dynamic = run!("readelf", ["--dynamic", "priv/nif_torch.so"], cd: root())
      needed = ~r/NEEDED.*\[(lib(?:torch|c10|cu|nv)[^\]]*)\]/ |> captures(dynamic) |> Enum.sort()
      assert needed == ["libc10.so", "libtorch_cpu.so"]
      assert captures(~r/R(?:UN)?PATH.*\[(.*)\]/, dynamic) == ["$ORIGIN/libtorch"]
    end

    test "bring libtorch along only where it is needed" do
      dynamic = run!("readelf", ["--dynamic", "priv/nif.so"], cd: root())
      refute dynamic =~ ~r/NEEDED.*(torch|c10|gomp|stdc)/
    end
  end

  describe "what is wrong with the machine is said in one line:" do
    test "no cargo" do
      with_env(%{"PATH" => "", "CARGO_HOME" => folder!("cargo")}, fn ->
        assert_raise Mix.Error,
                     ~r/\Aexpected cargo 1.91 or later in PATH, found none; see /,
                     fn ->
                       Cargo.run([])
                     end
      end)
    end
  end

  test "mix and cargo say the same version" do
    [version] = captures(~r/^version = "(.*)"$/m, File.read!(Path.join(root(), "Cargo.toml")))
    assert Mix.Project.config()[:version] == version
  end

  # A user who never built anything: no LIBTORCH, and no cache where libtorch could be found.
  defp bare(folder) do
    home = Path.join(folder, "home")
    File.mkdir_p!(home)
    [{"LIBTORCH", nil}, {"XDG_CACHE_HOME", nil}, {"HOME", home}, {"PICTURE", sample()}]
  end

  defp captures(regex, text) do
    regex |> Regex.scan(text, capture: :all_but_first) |> List.flatten()
  end
end
