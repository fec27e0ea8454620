defmodule Image.ZeroShot.ModelTest do
  # Unloads models that other tests would use.
  use ExUnit.Case, async: false

  alias Image.ZeroShot
  alias Image.ZeroShot.{Classifier, Error, Serving}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Serving.{Model, Server}

  @moduletag :tmp_dir

  @dog {:path, "priv/samples/dog.jpg"}

  # A model of its own for each test, whose cache is empty.
  setup %{tmp_dir: dir} do
    copy = Path.join(dir, "emoji-clip")
    File.cp_r!(Application.app_dir(:image_zero_shot, "priv/models/emoji-clip"), copy)
    opts = [repo: {:local, copy}, device: :cpu, cache_dir: Path.join(dir, "cache")]
    on_exit(fn -> ZeroShot.unload(opts) end)
    %{opts: opts, directory: copy}
  end

  defp info(opts) do
    :ok = ZeroShot.load(opts)
    {:ok, info} = ZeroShot.info(opts)
    info
  end

  test "info tells what the model is and where it is", %{opts: opts, directory: directory} do
    assert {:error, %Error{reason: :model_unloaded, message: message}} = ZeroShot.info(opts)
    assert message == "the model is not loaded; load it with Image.ZeroShot.load/1"
    info = info(opts)

    assert info.name == "emoji-clip"
    assert info.directory == directory
    assert {info.device, info.requested_device, info.device_note} == {"cpu", "cpu", nil}
    assert {info.dim, info.image_size, info.context_length} == {128, 64, 32}
    assert info.logit_scale > 1.0 and info.logit_scale <= 100.5
    assert info.precision == "f32"
    assert {info.format, Path.basename(info.weights)} == {"safetensors", "model.safetensors"}
    assert Enum.map(info.tokenizer, &Path.basename/1) == ["tokenizer.json"]
    assert info.revision == nil
    # What embeddings and classifiers have, too.
    assert "local-" <> _checksum = info.commit
    refute Map.has_key?(info, :version)
    photo = {:path, "priv/samples/dog.jpg"}
    assert ZeroShot.embed(photo, opts).commit == info.commit
    classifier = ZeroShot.classifier(["cat", "dog"], opts)
    assert Classifier.info(classifier).model.commit == info.commit
    assert {File.exists?(info.encoders), info.encoders_note} == {true, nil}
    refute Map.has_key?(info, :preprocessing)

    # In f32, and kept in f16; the table of 4,096 tokens of 128 numbers stays there.
    kept = File.stat!(Path.join(directory, "model.safetensors")).size
    assert_in_delta info.memory, 2 * (kept - 4_096 * 128 * 2), 0.1 * kept

    cores = System.schedulers_online()
    assert {info.concurrency, info.threads} == {1, cores}
    assert info.max_batch == min(16 * cores, 256)
    assert info.node == node()
    assert info.queue == %{admitted: 0, waiting: 0, running: 0, dropped: 0, max: 512}
    assert info.text_cache == %{size: 0, max: 50_000, hits: 0, misses: 0}
    assert info.batches == %{count: 0, pictures: 0, prompts: 0, largest: 0, failed: 0}
  end

  test "another precision is another serving of the model", %{opts: opts} do
    full = info(opts)

    case ZeroShot.load([precision: :bf16] ++ opts) do
      :ok ->
        {:ok, half} = ZeroShot.info([precision: :bf16] ++ opts)
        on_exit(fn -> ZeroShot.unload([precision: :bf16] ++ opts) end)
        assert half.precision == "bf16" and half.memory < full.memory
        # The embeddings of both are of one model.
        [a, b] = for more <- [[], [precision: :bf16]], do: ZeroShot.embed(@dog, more ++ opts)
        assert ZeroShot.Embedding.similarity(a, b) > 0.999 and a.vector != b.vector

      # A processor without the instructions says so.
      {:error, error} ->
        assert error.reason == :device_unavailable
        assert error.message =~ "AVX512_BF16"
    end

    assert {:error, %Error{reason: :device_unavailable, message: message}} =
             ZeroShot.load([precision: :f16] ++ opts)

    assert message =~ "precision f16 is not available on cpu: it is for GPUs"
    # The default is as it was.
    assert {:ok, %{precision: "f32"}} = ZeroShot.info(opts)
  end

  test "it is served as the one says who loads it", %{opts: opts} do
    served = [concurrency: 2, threads: 1, max_batch: 3, max_queue: 7]
    assert ZeroShot.load(opts ++ served) == :ok
    assert %{concurrency: 2, threads: 1, max_batch: 3, queue: %{max: 7}} = info(opts)

    labels = 1..16 |> Enum.map(fn _ -> Task.async(fn -> label(opts) end) end) |> Task.await_many()
    assert {:ok, "dog"} in labels
    for {:error, error} <- labels, do: assert(error.reason == :overloaded)
  end

  defp label(opts), do: ZeroShot.try_label(@dog, ["cat", "dog"], opts)

  test "the device is the best there is unless it is named", %{opts: opts} do
    auto = Keyword.put(opts, :device, :auto)
    on_exit(fn -> ZeroShot.unload(auto) end)
    info = info(auto)
    assert info.requested_device == "auto"
    assert info.device in ["cpu", "cuda:0", "mps"]
    {:ok, devices} = ZeroShot.devices()

    for device <- [:cuda, {:cuda, 99}, :mps], device not in devices do
      if device != :cuda or {:cuda, 0} not in devices do
        assert {:error, %Error{reason: :device_unavailable} = error} =
                 ZeroShot.load(Keyword.put(opts, :device, device))

        name = if is_tuple(device), do: "cuda:99", else: to_string(device)
        assert Exception.message(error) =~ name
      end
    end
  end

  test "the encoders come from the cache the second time", %{opts: opts} do
    assert Path.expand(info(opts).encoders) =~ opts[:cache_dir]
    assert [_ | _] = files = Path.wildcard(Path.join(opts[:cache_dir], "**/*.*"))

    :ok = ZeroShot.unload(opts)
    assert Path.expand(info(opts).encoders) =~ opts[:cache_dir]
    assert Path.wildcard(Path.join(opts[:cache_dir], "**/*.*")) == files
  end

  test "encoders that were exported elsewhere are used on request", %{tmp_dir: dir} do
    mine = Path.join(dir, "mine")
    File.cp_r!("test/fixtures/open-clip", mine)
    own = [repo: {:local, mine}, torchscript: mine, device: :cpu]
    on_exit(fn -> ZeroShot.unload(own) end)
    assert %{format: "torchscript", weights: ^mine} = info(own)
    assert {:ok, "dog"} = ZeroShot.try_label(@dog, ["dog"], own)

    File.rm!(Path.join(mine, "text.pt"))
    ZeroShot.unload(own)
    assert {:error, %Error{reason: :not_found} = error} = ZeroShot.load(own)
    assert Exception.message(error) =~ "text.pt"
  end

  test "a model that was unloaded is loaded anew", %{opts: opts} do
    assert {:ok, "dog"} = label(opts)
    assert ZeroShot.unload(opts) == :ok
    assert ZeroShot.unload(opts) == :ok
    assert {:error, %Error{reason: :model_unloaded}} = ZeroShot.info(opts)
    assert {:ok, "dog"} = label(opts)
  end

  test "a serving killed while it loads leaves nothing behind that is in the way", %{opts: opts} do
    # The native library goes on with what it began, whatever becomes of the process.
    all = Options.load!(opts)
    key = {:model, Model.key(all)}
    server = Server.start_child(key, all)
    Process.exit(server, :kill)
    assert {:ok, "dog"} = label(opts)
  end

  test "a model that is unloaded while it is used is an error at most", %{opts: opts} do
    :ok = ZeroShot.load(opts)
    users = for _ <- 1..8, do: Task.async(fn -> for _ <- 1..10, do: label(opts) end)
    for _ <- 1..5, do: assert(ZeroShot.unload(opts) == :ok)

    for {outcome, result} <- users |> Task.await_many(60_000) |> List.flatten() do
      case outcome do
        :ok -> assert result == "dog"
        :error -> assert result.reason in [:model_unloaded, :serving_down]
      end
    end
  end

  describe "a serving in an application's own tree" do
    test "has loaded its model when the tree goes on, and is found by its name", %{opts: opts} do
      name = :"#{__MODULE__}.Clip"
      start_supervised!({Serving, [name: name, max_queue: 5] ++ opts})
      assert {:ok, %{queue: %{max: 5, admitted: 0}}} = ZeroShot.info(serving: name)
      assert ZeroShot.load(serving: name) == :ok
      assert ZeroShot.label(@dog, ["cat", "dog"], serving: name) == "dog"
      # There is no other copy of the model.
      assert {:error, %Error{reason: :model_unloaded}} = ZeroShot.info(opts)

      assert {:error, {:already_started, _}} = Serving.start_link([name: name] ++ opts)
      :ok = stop_supervised({Serving, name})
      assert {:error, %Error{reason: :serving_down}} = ZeroShot.info(serving: name)
    end

    test "that cannot load it does not start", %{opts: opts} do
      opts = Keyword.put(opts, :repo, {:local, "no/such/model"})

      spec =
        Supervisor.child_spec({Serving, [name: __MODULE__.None] ++ opts}, restart: :temporary)

      assert {:error, {%Error{reason: :not_found}, _child}} = start_supervised(spec)
    end
  end

  describe "a directory that holds no model" do
    defp fault(opts) do
      assert {:error, %Error{} = error} = ZeroShot.load(opts)
      {error.reason, Exception.message(error)}
    end

    test "is named", %{opts: opts, tmp_dir: dir} do
      missing = Path.join(dir, "missing")
      assert {:not_found, message} = fault(Keyword.put(opts, :repo, {:local, missing}))
      assert message =~ "missing"
    end

    test "because a file is missing", %{opts: opts, directory: directory} do
      for file <- ~w(config.json tokenizer.json preprocessor_config.json model.safetensors) do
        path = Path.join(directory, file)
        File.rename!(path, path <> ".away")
        assert {:not_found, message} = fault(opts)
        assert message =~ file
        File.rename!(path <> ".away", path)
      end

      assert ZeroShot.load(opts) == :ok
    end

    test "because a file is damaged", %{opts: opts, directory: directory} do
      reasons = %{
        "config.json" => :invalid_config,
        "preprocessor_config.json" => :invalid_config,
        "tokenizer.json" => :invalid_tokenizer,
        "model.safetensors" => :invalid_weights
      }

      for {file, reason} <- reasons do
        path = Path.join(directory, file)
        whole = File.read!(path)

        for bytes <- ["", "{", "null", "[1]", binary_part(whole, 0, div(byte_size(whole), 2))] do
          File.write!(path, bytes)
          assert {^reason, message} = fault(opts)
          assert message =~ file
        end

        File.write!(path, whole)
      end

      assert ZeroShot.load(opts) == :ok
    end
  end

  test "a cache that cannot be written is no obstacle", %{opts: opts, tmp_dir: dir} do
    file = Path.join(dir, "a-file")
    File.write!(file, "")
    opts = Keyword.put(opts, :cache_dir, Path.join(file, "cache"))
    on_exit(fn -> ZeroShot.unload(opts) end)
    assert %{encoders: nil, encoders_note: note} = info(opts)
    assert is_binary(note)
  end
end
