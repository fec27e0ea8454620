defmodule Image.ZeroShot.ArtifactTest do
  use ExUnit.Case, async: false

  import ExUnit.{CaptureIO, CaptureLog}
  import Image.ZeroShot.Packaging

  alias Image.ZeroShot.Build.{Artifact, Libtorch}
  alias Image.ZeroShot.Test.ArchiveServer

  @moduletag :packaging
  @moduletag timeout: 600_000

  @crates ["nif", "nif_torch"]
  @variable "IMAGE_ZERO_SHOT_PRECOMPILED"

  # A checkout with libraries of a few bytes, packed by the task.
  setup do
    folder = folder!("artifact")
    libraries = Map.new(@crates, &{&1, "library of #{&1}"})
    File.mkdir_p!(Path.join(folder, "priv"))
    File.mkdir_p!(Path.join(folder, "native/build"))

    for {crate, library} <- libraries,
        do: File.write!(Path.join(folder, "priv/#{crate}.so"), library)

    checksums = Path.join(folder, "native/build/checksums.txt")
    File.write!(checksums, "# a note\n0123  another.tar.gz\n")
    name = Artifact.name(version())

    {:ok,
     folder: folder,
     libraries: libraries,
     checksums: checksums,
     name: name,
     archive: Path.join([folder, "out", name])}
  end

  defp version, do: Mix.Project.config()[:version]

  defp pack!(context) do
    File.cd!(context.folder, fn ->
      output = capture_io(fn -> Mix.Task.rerun("image_zero_shot.artifact", ["out"]) end)
      assert output =~ "Packed out/#{context.name}"
    end)

    File.read!(context.archive)
  end

  test "without a folder nothing is packed, and no checksum is entered", context do
    File.cd!(context.folder, fn ->
      before = File.read(context.checksums)

      for argv <- [[], ["out", "more"], ["--out"]] do
        error = assert_raise Mix.Error, fn -> Mix.Task.rerun("image_zero_shot.artifact", argv) end

        assert error.message =~ ~r/expected (one|a) folder/
      end

      refute File.exists?("_build/artifact")
      assert File.read(context.checksums) == before
    end)
  end

  defp take(context, place) do
    env = %{"XDG_CACHE_HOME" => Path.join(context.folder, "cache")}

    with_env(env, fn ->
      capture_io(fn ->
        send(self(), {:taken, Artifact.libraries!(place, @crates, version(), context.checksums)})
      end)
    end)

    receive do: ({:taken, libraries} -> libraries)
  end

  defp refused(context, place, pattern) do
    error = assert_raise(Mix.Error, fn -> take(context, place) end)
    assert error.message =~ pattern
    assert error.message =~ ~r/\A#{@variable}: .*/
    error.message
  end

  # An archive of these entries at the right place, with the right checksum.
  defp archive!(context, entries) do
    File.mkdir_p!(Path.dirname(context.archive))
    path = String.to_charlist(context.archive)
    {:ok, tar} = :erl_tar.open(path, [:write, :compressed])
    for {name, content} <- entries, do: :ok = :erl_tar.add(tar, content, name, [])
    :ok = :erl_tar.close(tar)
    enter!(context, File.read!(context.archive))
  end

  defp enter!(context, archive) do
    sum = :sha256 |> :crypto.hash(archive) |> Base.encode16(case: :lower)
    File.write!(context.checksums, "#{sum}  #{context.name}\n")
  end

  test "the name says version, NIF version, platform and libtorch", %{name: name} do
    assert name =~
             ~r/\Aimage_zero_shot-\d+\.\d+\.\d+-nif-2\.15-\w+-[\w-]+-libtorch-2\.11\.0\.tar\.gz\z/

    assert name =~ Libtorch.target!()
  end

  test "what was packed is taken, and its checksum is entered beside the others", context do
    archive = pack!(context)
    assert take(context, context.archive) == context.libraries
    assert ["# a note", "0123  another.tar.gz", line] = lines(context.checksums)
    assert line =~ ~r/\A[0-9a-f]{64}  #{Regex.escape(context.name)}\z/

    # The same libraries make the same archive.
    assert pack!(context) == archive
    assert length(lines(context.checksums)) == 3
  end

  defp lines(path), do: path |> File.read!() |> String.split("\n", trim: true)

  test "the committed file of checksums is read" do
    assert_raise Mix.Error, ~r/expected native\/build\/checksums.txt to have a checksum/, fn ->
      Artifact.libraries!(Artifact.name("0.0.9"), @crates, "0.0.9", "native/build/checksums.txt")
    end
  end

  describe "an archive is refused that" do
    test "has another checksum", context do
      pack!(context)
      File.write!(context.archive, "more", [:append])
      message = refused(context, context.archive, "to have the SHA-256 in ")
      assert message =~ "unset #{@variable} to build from source"
    end

    test "has no checksum", context do
      pack!(context)
      File.write!(context.checksums, "")
      refused(context, context.archive, ~r/to have a checksum of .*, found none/)
    end

    test "is for another platform, version or libtorch", context do
      other = String.replace(context.name, Libtorch.target!(), "riscv64-unknown-linux-gnu")
      refused(context, "/tmp/#{other}", "expected the archive for this platform and version, ")
      refused(context, "https://example.org/#{other}?key=1", "got: #{other}; ")
    end

    test "is not there, or is a folder", context do
      pack!(context)
      File.rm!(context.archive)
      refused(context, context.archive, "no such file or directory")
      File.mkdir!(context.archive)
      refused(context, context.archive, "expected a file, got a directory")
    end

    test "holds anything but the two libraries", context do
      nif = {~c"nif.so", "library"}
      torch = {~c"nif_torch.so", "library"}

      for entries <- [
            [],
            [nif],
            [nif, torch, {~c"more", ""}],
            [nif, torch, torch],
            [nif, {~c"/tmp/nif_torch.so", ""}],
            [nif, {~c"../nif_torch.so", ""}],
            [nif, {~c"sub/nif_torch.so", ""}]
          ] do
        archive!(context, entries)
        refused(context, context.archive, "expected an archive of two plain files, nif.so and ")
      end
    end

    test "holds links", context do
      links = Path.join(context.folder, "links")
      File.mkdir_p!(links)
      File.write!(Path.join(links, "nif.so"), "library")
      File.ln_s!("/etc/passwd", Path.join(links, "nif_torch.so"))
      File.mkdir_p!(Path.dirname(context.archive))
      run!("tar", ["-czf", context.archive, "nif.so", "nif_torch.so"], cd: links)
      enter!(context, File.read!(context.archive))
      refused(context, context.archive, "expected an archive of two plain files")
    end

    test "is none, or unpacks to more than any could", context do
      bomb = :zlib.gzip(:binary.copy(<<0>>, 300 * 1024 * 1024))

      for {archive, expected} <- [
            {"nonsense", "expected a .tar.gz, got something else"},
            {:zlib.gzip("nonsense"), "expected an archive of two plain files"},
            {bomb, "expected an archive of at most 256 MB"}
          ] do
        File.mkdir_p!(Path.dirname(context.archive))
        File.write!(context.archive, archive)
        enter!(context, archive)
        refused(context, context.archive, expected)
      end
    end
  end

  describe "an address" do
    test "is downloaded from once, through redirects", context do
      archive = pack!(context)
      test = self()

      url =
        ArchiveServer.start!(fn path ->
          send(test, {:asked, path})

          if path == "/here/#{context.name}",
            do: {200, [], archive},
            else: {302, [{"location", "/here/#{context.name}"}], ""}
        end)

      for _ <- 1..2,
          do: assert(take(context, "#{url}/there/#{context.name}") == context.libraries)

      assert_received {:asked, "/there/" <> _}
      assert_received {:asked, "/here/" <> _}
      refute_received {:asked, _}
    end

    test "whose content has another checksum is refused, and nothing is kept", context do
      pack!(context)
      url = ArchiveServer.start!(fn _path -> {200, [], "something else"} end)
      refused(context, "#{url}/#{context.name}", "to have the SHA-256 in ")
      refute File.exists?(Path.join([context.folder, "cache/image_zero_shot", context.name]))
    end

    test "that does not answer with a file is an error", context do
      pack!(context)

      for {answer, expected} <- [
            {{404, [], "none"}, "the server answered 404"},
            {{302, [], ""}, "to lead to the archive, it does not"},
            {{302, [{"location", "/again"}], ""}, "to lead to the archive, it does not"},
            {{302, [{"location", "http://example.org/x"}], ""}, "begins with https://"},
            {{302, [{"location", "file:///etc/passwd"}], ""}, "begins with https://"},
            {:silence, "could not download "}
          ] do
        url = ArchiveServer.start!(fn _path -> answer end)
        refused(context, "#{url}/#{context.name}", expected)
        stop_supervised!(Task)
      end
    end

    test "of a server without a certificate that is known is an error", context do
      pack!(context)
      {:ok, _started} = Application.ensure_all_started(:ssl)
      side = [digest: :sha256, key: {:rsa, 2048, 65_537}]
      chain = %{root: side, intermediates: [], peer: side}
      configs = :public_key.pkix_test_data(%{server_chain: chain, client_chain: chain})
      options = [active: false, log_level: :none, ip: {127, 0, 0, 1}] ++ configs.server_config
      {:ok, listener} = :ssl.listen(0, options)
      {:ok, {_address, port}} = :ssl.sockname(listener)

      start_supervised!(
        {Task,
         fn ->
           {:ok, socket} = :ssl.transport_accept(listener)
           {:error, _alert} = :ssl.handshake(socket)
         end}
      )

      capture_log(fn ->
        message = refused(context, "https://127.0.0.1:#{port}/#{context.name}", "TLS: ")
        assert message =~ "TLS: unknown_ca"
      end)
    end

    test "has to be https, and no secret of it is shown", context do
      pack!(context)
      address = "http://me:c4n4ry@example.org/#{context.name}?c4n4ry"
      message = refused(context, address, "expected an address that begins with https://, got: ")
      refute message =~ "c4n4ry"
      refused(context, "ftp://127.0.0.1/#{context.name}", "begins with https://")
    end
  end

  test "a libtorch of another version is refused", context do
    File.write!(Path.join(context.folder, "build-version"), "2.9.0+cpu\n")

    assert_raise Mix.Error, ~r/expected libtorch 2.11.0 .*, found 2.9.0 in /, fn ->
      Libtorch.check_version!(context.folder)
    end
  end

  test "a project without cargo and without a compiler classifies", context do
    # This library as a package has it, with the checksum of what is built here.
    library = Path.join(context.folder, "library")
    run!("git", ["clone", "--quiet", repository!(context.folder), library], cd: context.folder)
    checksums = Path.join(library, "native/build/checksums.txt")
    out = Path.join(context.folder, "real")
    run!("mix", ["compile"], cd: root())
    archive = Artifact.pack!(@crates, version(), Path.join(root(), "priv"), out, checksums)

    project = consumer!(context.folder)
    {_, libtorch} = List.keyfind(shared_build(), "LIBTORCH", 0)

    env = [
      {"PATH", without_compilers!(context.folder)},
      {"CARGO_HOME", Path.join(context.folder, "no-cargo")},
      {"MIX_ENV", "prod"},
      {"LIBTORCH", libtorch},
      {"DEPENDENCY", "path:#{library}"},
      {"PICTURE", sample()}
    ]

    assert {output, 1} = run("mix", ["compile"], cd: project, env: env)
    assert output =~ "expected cargo"

    env = [{@variable, archive} | env]
    assert run!("mix", ["run", "--no-halt"], cd: project, env: env) =~ "label: dog\n"
  end

  # All programs but those that a build from source needs.
  defp without_compilers!(folder) do
    bin = Path.join(folder, "bin")
    File.mkdir_p!(bin)
    needed = ~w(mix elixir erl sh bash env uname dirname basename readlink sed cat rm tty stty)

    for name <- needed,
        program = System.find_executable(name),
        do: File.ln_s!(program, Path.join(bin, name))

    for name <- ~w(cargo cc c++ cmake), do: refute(File.exists?(Path.join(bin, name)))
    bin
  end
end
