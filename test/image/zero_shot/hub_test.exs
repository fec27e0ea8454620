defmodule Image.ZeroShot.HubTest do
  # The environment and the configuration belong to the whole VM.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Image.ZeroShot
  alias Image.ZeroShot.{Error, Hub, Packaging}
  alias Image.ZeroShot.Test.HubSite

  @moduletag :tmp_dir

  doctest Image.ZeroShot.Hub

  @name "acme/emoji-clip"
  @labels ["dog", "cat", "pizza", "rocket"]
  @photo {:path, "priv/samples/dog.jpg"}
  @canary "hf_canary_c4n4ry"

  setup %{tmp_dir: dir} do
    cache = Path.join(dir, "hub")
    %{cache: cache, opts: [hub_cache: cache, token: false, offline: false]}
  end

  defp model_opts(site, opts, dir) do
    opts = Keyword.merge(opts, repo: @name, hub_endpoint: site.url, device: :cpu)
    opts = Keyword.put(opts, :cache_dir, Path.join(dir, "encoders"))
    on_exit(fn -> ZeroShot.unload(opts) end)
    opts
  end

  defp fault(name \\ @name, opts) do
    assert {:error, %Error{} = error} = Hub.fetch(name, opts)
    {error.reason, Exception.message(error)}
  end

  describe "a model by name" do
    test "is downloaded once and answers as from a directory",
         %{opts: opts, tmp_dir: dir} do
      site = HubSite.start!()
      opts = model_opts(site, opts, dir)
      expected = ZeroShot.classify(@photo, @labels, repo: :embedded, device: :cpu)
      assert_same(ZeroShot.classify(@photo, @labels, opts), expected)

      gets = for %{method: "GET", path: path} <- HubSite.requests(site), do: path
      assert gets != [] and gets == Enum.uniq(gets)

      before = length(HubSite.requests(site))
      ZeroShot.unload(opts)
      assert_same(ZeroShot.classify(@photo, @labels, opts), expected)
      assert length(HubSite.requests(site)) == before

      ZeroShot.unload(opts)
      offline = Keyword.merge(opts, offline: true, hub_endpoint: "http://127.0.0.1:1")
      on_exit(fn -> ZeroShot.unload(offline) end)
      assert_same(ZeroShot.classify(@photo, @labels, offline), expected)
    end

    # The last digits of a prompt's embedding depend on the prompts that were run with it.
    defp assert_same(results, expected) do
      assert Enum.map(results, & &1.label) == Enum.map(expected, & &1.label)
      for {a, b} <- Enum.zip(results, expected), do: assert_in_delta(a.score, b.score, 1.0e-4)
    end

    test "is the default and needs only a network", %{tmp_dir: dir} do
      site = HubSite.start!(name: "openai/clip-vit-base-patch32")
      # Both caches are below these.
      env = %{"HF_ENDPOINT" => site.url, "XDG_CACHE_HOME" => dir, "HOME" => dir}
      unset = ~w(HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_TOKEN)

      Packaging.with_env(Map.merge(env, Map.new(unset, &{&1, ""})), fn ->
        assert ZeroShot.label(@photo, @labels) == "dog"
        {:ok, info} = ZeroShot.info()
        assert info.name == "openai/clip-vit-base-patch32"
        assert String.starts_with?(info.directory, Path.join(dir, "huggingface/hub/"))
        assert ZeroShot.unload() == :ok
      end)
    end

    test "is downloaded once for concurrent callers", %{opts: opts, tmp_dir: dir} do
      site = HubSite.start!()
      opts = model_opts(site, opts, dir)

      loads =
        1..20
        |> Enum.map(fn _ -> Task.async(fn -> ZeroShot.load(opts) end) end)
        |> Task.await_many()

      assert Enum.uniq(loads) == [:ok]

      assert Enum.count(HubSite.requests(site), &(&1.port_of == :content and &1.method == "GET")) ==
               1
    end

    test "has its name, commit and files in info/1", %{opts: opts, tmp_dir: dir} do
      opts = model_opts(HubSite.start!(), opts, dir)
      :ok = ZeroShot.load(opts)
      {:ok, info} = ZeroShot.info(opts)
      assert {info.name, info.revision, info.commit} == {@name, nil, HubSite.commit()}
      assert Path.basename(info.directory) == HubSite.commit()
      assert {info.format, Path.basename(info.weights)} == {"safetensors", "model.safetensors"}
      assert "tokenizer.json" in Enum.map(info.tokenizer, &Path.basename/1)
    end

    test "is announced in the log while it is downloaded", %{opts: opts, tmp_dir: dir} do
      opts = model_opts(HubSite.start!(), opts, dir)
      log = capture_log(fn -> assert ZeroShot.load(opts) == :ok end)
      assert log =~ ~r/\[info\] +downloading acme\/emoji-clip, \d+\.\d MB/
      assert log =~ ~r/downloading acme\/emoji-clip: 100 %/

      ZeroShot.unload(opts)
      refute capture_log(fn -> ZeroShot.load(opts) end) =~ "downloading"
    end

    test "is an error of each call while it cannot be fetched, and is tried again", %{
      opts: opts,
      tmp_dir: dir
    } do
      trouble = :counters.new(1, [])

      site =
        HubSite.start!(
          intercept: fn _request, answer ->
            if :counters.get(trouble, 1) == 0, do: HubSite.refused(403, "GatedRepo"), else: answer
          end
        )

      opts = model_opts(site, opts, dir)
      assert {:error, %Error{reason: :gated}} = ZeroShot.try_label(@photo, @labels, opts)
      assert_raise Error, fn -> ZeroShot.label(@photo, @labels, opts) end
      :counters.add(trouble, 1, 1)
      assert ZeroShot.label(@photo, @labels, opts) == "dog"
    end
  end

  describe "fetch/2 and cached/2" do
    test "return the files, the commit and the directory", %{opts: opts, cache: cache} do
      opts = [hub_endpoint: HubSite.start!().url] ++ opts
      assert Hub.cached(@name, opts) == {:ok, nil}
      assert {:ok, snapshot} = Hub.fetch(@name, opts)
      assert snapshot.commit == HubSite.commit()

      assert snapshot.directory ==
               Path.join([cache, "models--acme--emoji-clip", "snapshots", HubSite.commit()])

      assert snapshot.bytes == snapshot.files |> Enum.map(& &1.size) |> Enum.sum()
      assert Enum.all?(snapshot.files, &(&1.cached == false))
      assert File.regular?(Path.join(snapshot.directory, "model.safetensors"))

      assert {:ok, cached} = Hub.cached(@name, opts)
      assert Enum.all?(cached.files, & &1.cached)
      assert Hub.fetch({:hf, @name}, opts) == {:ok, cached}
      assert Hub.cached(@name, [offline: true] ++ opts) == {:ok, cached}
    end

    test "take a commit as the revision, in both forms", %{opts: opts} do
      opts = [hub_endpoint: HubSite.start!().url] ++ opts
      assert {:ok, one} = Hub.fetch(@name, [revision: HubSite.commit()] ++ opts)
      assert {:ok, other} = Hub.fetch({:hf, @name, revision: HubSite.commit()}, opts)
      assert one.directory == other.directory
    end

    test "send progress, and stop when the listener is gone", %{opts: opts} do
      opts = [hub_endpoint: HubSite.start!().url] ++ opts
      gone = spawn(fn -> :ok end)
      ref = Process.monitor(gone)
      assert_receive {:DOWN, ^ref, :process, ^gone, _}
      assert {:cancelled, _} = fault([progress: gone] ++ opts)

      assert {:ok, %{bytes: bytes}} = Hub.fetch(@name, [progress: self()] ++ opts)
      assert_received {:hub_progress, %{done: _, total: _, file: _}}
      assert last_step() == {bytes, bytes}
    end

    test "ask where the branch is with :refresh", %{opts: opts} do
      site = HubSite.start!()
      opts = [hub_endpoint: site.url] ++ opts
      {:ok, _} = Hub.fetch(@name, opts)
      before = length(HubSite.requests(site))
      assert {:ok, %{files: files}} = Hub.fetch(@name, [refresh: true] ++ opts)
      assert length(HubSite.requests(site)) > before
      assert Enum.all?(files, & &1.cached)
    end

    test "refuse a :repo that is not on the Hub" do
      for repo <- [:embedded, {:local, "dir"}] do
        assert_raise ArgumentError, ~r/^expected the name of a model such as "org\/name"/, fn ->
          Hub.fetch(repo)
        end
      end
    end
  end

  describe "the environment" do
    test "is that of this VM at the moment of the call", %{cache: cache} do
      site = HubSite.start!()

      Packaging.with_env(
        %{
          "HF_HUB_CACHE" => cache,
          "HF_ENDPOINT" => site.url,
          "HF_TOKEN" => @canary,
          "HF_HUB_OFFLINE" => "0",
          "HF_HUB_DISABLE_IMPLICIT_TOKEN" => "0"
        },
        fn ->
          assert {:ok, snapshot} = Hub.fetch(@name)
          assert String.starts_with?(snapshot.directory, cache)
          assert hd(HubSite.requests(site)).head =~ "authorization: Bearer #{@canary}\r\n"
          System.put_env("HF_HUB_OFFLINE", "1")
          assert {:ok, _} = Hub.fetch(@name)
          assert {:offline, message} = fault("acme/other", [])
          assert message =~ "HF_HUB_OFFLINE"
        end
      )
    end

    test "may have a password in HF_ENDPOINT, which is refused and not shown" do
      Packaging.with_env(%{"HF_ENDPOINT" => "https://me:c4n4ry@hub.test"}, fn ->
        assert {:invalid_option, message} = fault(offline: false)
        assert message =~ "HF_ENDPOINT" and message =~ "hub.test"
        refute message =~ "c4n4ry"
      end)
    end

    test "without a home directory is an error that says what to set", %{opts: opts} do
      names = ~w(HOME XDG_CACHE_HOME HF_HOME HF_HUB_CACHE HUGGINGFACE_HUB_CACHE)

      Packaging.with_env(Map.new(names, &{&1, nil}), fn ->
        for call <- [&Hub.fetch/2, &Hub.cached/2] do
          assert {:error, %Error{reason: :cache_not_writable, message: message}} =
                   call.(@name, [])

          assert message =~ "HF_HOME" and message =~ ":hub_cache"
        end

        assert {:error, %Error{reason: :cache_not_writable}} =
                 ZeroShot.try_label(@photo, @labels, repo: @name, device: :cpu)

        assert {:ok, _} = Hub.fetch(@name, [hub_endpoint: HubSite.start!().url] ++ opts)
      end)
    end

    test "switches links off", %{opts: opts} do
      opts = [hub_endpoint: HubSite.start!().url] ++ opts

      Packaging.with_env(%{"HF_HUB_DISABLE_SYMLINKS" => "1"}, fn ->
        assert {:ok, snapshot} = Hub.fetch(@name, opts)

        for %{name: name} <- snapshot.files,
            do: assert({:ok, %{type: :regular}} = File.lstat(Path.join(snapshot.directory, name)))

        assert {:ok, %{directory: directory}} = Hub.cached(@name, opts)
        assert directory == snapshot.directory
      end)
    end

    test "gives way to the configuration, and that to options of the call", %{
      opts: opts,
      tmp_dir: dir
    } do
      site = HubSite.start!()
      Application.put_env(:image_zero_shot, :hub_endpoint, site.url)
      Application.put_env(:image_zero_shot, :offline, true)

      on_exit(fn ->
        for o <- [:hub_endpoint, :offline], do: Application.delete_env(:image_zero_shot, o)
      end)

      Packaging.with_env(%{"HF_ENDPOINT" => "http://127.0.0.1:1"}, fn ->
        assert {:ok, _} = Hub.fetch(@name, opts)
        other = Path.join(dir, "other")
        assert {:offline, _} = fault(hub_cache: other)
      end)
    end
  end

  defp last_step(last \\ nil) do
    receive do
      {:hub_progress, step} -> last_step({step.done, step.total})
    after
      0 -> last
    end
  end
end
