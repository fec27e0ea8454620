defmodule Image.ZeroShot.PrefetchTest do
  # Configuration belongs to the whole VM.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Image.ZeroShot.Packaging, only: [root: 0, run: 3]

  alias Image.ZeroShot
  alias Image.ZeroShot.Hub
  alias Image.ZeroShot.CLI.Prefetch
  alias Image.ZeroShot.Test.HubSite

  @moduletag :tmp_dir

  @name "acme/emoji-clip"
  @embedded ~r/^model: .*emoji-clip, which ships with the library; there is nothing to download\nencoders: .*\n$/
  @files ~w(config.json preprocessor_config.json tokenizer.json special_tokens_map.json) ++
           ~w(tokenizer_config.json model.safetensors)

  setup %{tmp_dir: dir} do
    site = HubSite.start!()
    cache = Path.join(dir, "hub")

    configure(
      repo: @name,
      hub_endpoint: site.url,
      hub_cache: cache,
      token: false,
      offline: false,
      device: :cpu,
      cache_dir: Path.join(dir, "encoders")
    )

    %{site: site, cache: cache, dir: dir}
  end

  defp configure(opts) do
    for {name, value} <- opts do
      Application.put_env(:image_zero_shot, name, value)
      on_exit(fn -> Application.delete_env(:image_zero_shot, name) end)
    end
  end

  defp prefetch(argv, output \\ []) do
    shown = capture_io(fn -> send(self(), {:result, Prefetch.run(argv, output)}) end)
    assert_received {:result, result}
    {result, shown}
  end

  # How many lines a download takes is a matter of its speed.
  defp without_progress(shown) do
    {progress, rest} = shown |> String.split("\n") |> Enum.split_with(&(&1 =~ ~r/^ *\d+ %  /))
    {progress, Enum.join(rest, "\n")}
  end

  defp size(path), do: path |> File.stat!() |> Map.fetch!(:size)

  defp names(line), do: Regex.scan(~r/[\w.]+(?= \()/, line) |> List.flatten() |> Enum.sort()

  describe "--zero-shot" do
    test "downloads the configured model, exports its encoders and says so",
         %{site: site, cache: cache, dir: dir} do
      assert {:ok, shown} = prefetch(["--zero-shot"])
      {progress, rest} = without_progress(shown)
      assert List.last(progress) =~ ~r/^100 %  6\.5 MB of 6\.5 MB, \d+\.\d [kMG]B\/s$/
      assert Enum.all?(progress, &(&1 =~ ~r/^ *\d+0 %  \d+\.\d [kM]B of 6\.5 MB/))

      snapshot = Path.join([cache, "models--acme--emoji-clip/snapshots", HubSite.commit()])
      assert [model, downloaded, commit, directory, encoders, ""] = String.split(rest, "\n")
      assert model == "model: acme/emoji-clip at main"
      assert "downloaded: " <> files = downloaded
      assert names(files) == Enum.sort(@files)
      assert downloaded =~ "model.safetensors (6.2 MB)"
      assert commit == "commit: #{HubSite.commit()}"
      assert directory == "directory: #{snapshot}, 6.5 MB"
      assert [_, where] = Regex.run(~r/^encoders: (.*), \d+\.\d kB$/, encoders)
      assert String.starts_with?(where, Path.join(dir, "encoders")) and File.exists?(where)
      refute shown =~ ~r/[\e\r]/

      # The first call finds all of it.
      before = length(HubSite.requests(site))
      assert ZeroShot.load() == :ok
      assert {:ok, %{encoders: ^where}} = ZeroShot.info()
      assert ZeroShot.unload() == :ok
      assert length(HubSite.requests(site)) == before
    end

    test "says on the second run that all files are cached", %{site: site, cache: cache} do
      {:ok, _} = prefetch(["--zero-shot", "--no-export"])
      before = length(HubSite.requests(site))
      assert {:ok, shown} = prefetch(["--zero-shot", "--no-export"])
      assert length(HubSite.requests(site)) == before
      {:ok, snapshot} = Hub.cached(@name)
      files = for file <- snapshot.files, do: "#{file.name} (#{Hub.Progress.size(file.size)})"

      assert shown == """
             model: acme/emoji-clip at main
             cached already: #{Enum.join(files, ", ")}
             commit: #{HubSite.commit()}
             directory: #{cache}/models--acme--emoji-clip/snapshots/#{HubSite.commit()}, 6.5 MB
             """
    end

    test "draws a bar on a terminal, on one line" do
      assert {:ok, shown} = prefetch(["--zero-shot", "--no-export"], terminal: true)
      assert [first, bars | _rest] = String.split(shown, "\n")
      assert first == "model: acme/emoji-clip at main"
      bars = String.split(bars, "\r", trim: true)

      assert List.last(bars) =~
               ~r/^100 % \[#{String.duplicate("#", 24)}\]  6\.5 MB of 6\.5 MB, .*\e\[K$/

      assert Enum.all?(bars, &(String.length(&1) < 80 + String.length("\e[K")))
    end

    test "takes another model and revision", %{cache: cache} do
      configure(repo: "acme/other")
      flags = ["--repo", @name, "--revision", HubSite.commit(), "--no-export"]
      assert {:ok, shown} = prefetch(["--zero-shot" | flags])
      assert shown =~ "model: acme/emoji-clip at #{HubSite.commit()}\n"

      assert size(
               Path.join([
                 cache,
                 "models--acme--emoji-clip/snapshots",
                 HubSite.commit(),
                 "model.safetensors"
               ])
             ) > 0
    end

    test "with a model that is on this machine exports its encoders" do
      configure(repo: :embedded)
      assert {:ok, shown} = prefetch(["--zero-shot"])
      assert shown =~ @embedded
    end

    test "named embedded, or by its directory, asks the Hub for nothing", %{site: site} do
      assert {:ok, shown} = prefetch(["--zero-shot", "--repo", "embedded"])
      assert shown =~ @embedded

      assert {:ok, shown} = prefetch(["--zero-shot", "--repo", "./priv/models/emoji-clip"])

      assert shown =~
               ~r/^model: .*emoji-clip, on this machine; there is nothing to download\nencoders: /

      assert {{:error, message}, ""} =
               prefetch(["--zero-shot", "--repo", "embedded", "--revision", "main"])

      assert message =~ "expected :repo to be the name of a model where :revision is given"
      assert HubSite.requests(site) == []
    end
  end

  describe "--offline-check" do
    test "fails with one line while anything is missing, and sends no request", %{site: site} do
      assert {{:error, message}, "model: acme/emoji-clip at main\n"} =
               prefetch(["--zero-shot", "--offline-check"])

      assert message =~ "acme/emoji-clip at main is not in the cache"
      refute message =~ "\n"
      assert HubSite.requests(site) == []
    end

    test "says that the model is ready", %{site: site} do
      {:ok, _} = prefetch(["--zero-shot"])
      before = length(HubSite.requests(site))
      assert {:ok, shown} = prefetch(["--zero-shot", "--offline-check"])
      assert shown =~ ~r/\nencoders: .*\nready, without a network\n$/
      assert length(HubSite.requests(site)) == before
    end
  end

  describe "flags" do
    test "that are unknown or wrong are an error" do
      flags =
        "the flags are --zero-shot, --repo, --revision, --offline-check, --no-export; " <>
          "see mix help image_vision.download_models"

      meant = "did you mean --zero-shot? mix help image_vision.download_models lists all flags"

      for {argv, message} <- [
            {["--zeroshot"], "unknown flag --zeroshot; #{meant}"},
            {["--zero-shot", "--force"], "unknown flag --force; #{flags}"},
            {["--zero-shot", "--repo"], "expected a value after --repo"},
            {["--offline-check=maybe"], "expected no value for --offline-check, got: maybe"},
            {["--zero-shot", "org/name"], "expected only flags, got: org/name; #{flags}"}
          ] do
        assert prefetch(argv) == {{:error, message}, ""}
      end
    end

    @command "mix download_models --zero-shot"
    @covers "this package has only the models of zero-shot classification"

    test "can be left out, and the command is shown" do
      assert {:ok, shown} = prefetch(["--no-export"])

      assert String.starts_with?(
               shown,
               "fetching the model for zero-shot classification, the same as #{@command}\n" <>
                 "model: acme/emoji-clip at main\n"
             )
    end

    test "of image_vision are skipped with a note" do
      assert {:ok, shown} = prefetch(["--classify", "--zero-shot", "--caption", "--no-export"])
      assert String.starts_with?(shown, "--classify, --caption: skipped, #{@covers}\nmodel: ")

      assert prefetch(["--detect"]) ==
               {{:error, "nothing to do for --detect: #{@covers}; fetch one with #{@command}"},
                ""}
    end
  end

  describe "what fails is one line" do
    test "from the Hub" do
      assert {{:error, message}, _} = prefetch(["--zero-shot", "--repo", "acme/nothing"])
      assert message =~ "acme/nothing" and not (message =~ "\n")
      assert {{:error, message}, _} = prefetch(["--zero-shot", "--repo", "acme/no:thing"])
      assert message =~ "expected the repository to be"
      absent = "../absent-#{System.unique_integer([:positive])}"
      assert {{:error, message}, _} = prefetch(["--zero-shot", "--repo", absent])
      assert message == "no model directory at #{Path.expand(absent)}"
    end

    test "from the configuration" do
      configure(device: :gpu)
      assert {{:error, message}, ""} = prefetch(["--zero-shot"])
      assert message =~ "expected :device in the config of image_zero_shot to be"
    end

    test "from a cache for encoders that cannot be written", %{dir: dir} do
      File.write!(Path.join(dir, "file"), "")
      configure(cache_dir: Path.join(dir, "file/cache"))
      assert {{:error, message}, _} = prefetch(["--zero-shot"])
      assert message =~ "the encoders could not be kept"
    end

    test "raised by both tasks" do
      for task <- [Mix.Tasks.DownloadModels, Mix.Tasks.ImageVision.DownloadModels] do
        assert_raise Mix.Error, ~r/^unknown flag --nonsense; /, fn ->
          task.run(["--nonsense"])
        end
      end
    end
  end

  # Each starts a VM, and a build that has nothing to do.
  @tag :packaging
  @tag timeout: 300_000
  test "the commands end with a status", %{site: site, cache: cache, dir: dir} do
    env = [
      {"MIX_ENV", "test"},
      {"HF_ENDPOINT", site.url},
      {"HF_HUB_CACHE", cache},
      {"HF_HUB_OFFLINE", "0"},
      {"HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"},
      {"XDG_CACHE_HOME", Path.join(dir, "user")}
    ]

    argv = ["image_vision.download_models", "--zero-shot", "--repo", @name, "--no-export"]
    assert {shown, 0} = run("mix", argv, cd: root(), env: env)
    assert shown =~ ~r/^model: acme\/emoji-clip at main$/m
    assert shown =~ ~r/^100 %  6\.5 MB of 6\.5 MB/m
    assert shown =~ ~r/^commit: #{HubSite.commit()}$/m
    refute shown =~ ~r/[\e\r]/

    argv = ["download_models", "--zero-shot", "--repo", "acme/nothing", "--offline-check"]
    assert {shown, 1} = run("mix", argv, cd: root(), env: env)
    assert shown =~ ~r/^\*\* \(Mix\) acme\/nothing at main is not in the cache .*\n\z/m
  end
end
