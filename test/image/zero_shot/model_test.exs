defmodule Image.ZeroShot.ModelTest do
  # Unloads models that other tests would use.
  use ExUnit.Case, async: false

  alias Image.ZeroShot
  alias Image.ZeroShot.{Error, Model, ModelServer, Native, Options}

  @moduletag :tmp_dir

  doctest Image.ZeroShot.Model

  @dog {:path, "priv/samples/dog.jpg"}

  # A model of its own for each test, whose cache is empty.
  setup %{tmp_dir: dir} do
    copy = Path.join(dir, "emoji-clip")
    File.cp_r!(Application.app_dir(:image_zero_shot, "priv/models/emoji-clip"), copy)
    opts = [repo: {:local, copy}, device: :cpu, cache_dir: Path.join(dir, "cache")]
    on_exit(fn -> Model.unload(opts) end)
    %{opts: opts, directory: copy}
  end

  test "info tells what the model is and where it is", %{opts: opts, directory: directory} do
    assert {:ok, model} = Model.load(opts)
    info = Model.info(model)

    assert info.name == "emoji-clip"
    assert info.directory == directory
    assert {info.device, info.requested_device, info.device_note} == {"cpu", "cpu", nil}
    assert {info.dim, info.image_size, info.context_length} == {128, 64, 32}
    assert info.logit_scale > 1.0 and info.logit_scale <= 100.5
    assert info.precision == "f32"
    assert {info.format, Path.basename(info.weights)} == {"safetensors", "model.safetensors"}
    assert Enum.map(info.tokenizer, &Path.basename/1) == ["tokenizer.json"]
    assert {info.revision, info.commit} == {nil, nil}
    assert {File.exists?(info.encoders), info.encoders_note} == {true, nil}
    refute Map.has_key?(info, :preprocessing)
    refute inspect(model) =~ "Reference"
  end

  test "the device is the best there is unless it is named", %{opts: opts} do
    {:ok, model} = Model.load(Keyword.put(opts, :device, :auto))
    on_exit(fn -> Model.unload(model) end)
    assert Model.info(model).requested_device == "auto"
    assert Model.info(model).device in ["cpu", "cuda:0", "mps"]

    for device <- [:cuda, {:cuda, 99}, :mps], device not in Model.devices() do
      if device != :cuda or {:cuda, 0} not in Model.devices() do
        assert {:error, %Error{reason: :device_unavailable} = error} =
                 Model.load(Keyword.put(opts, :device, device))

        name = if is_tuple(device), do: "cuda:99", else: to_string(device)
        assert Exception.message(error) =~ name
      end
    end
  end

  test "50 first callers get one model", %{opts: opts} do
    models =
      1..50
      |> Enum.map(fn _ -> Task.async(fn -> Model.load(opts) end) end)
      |> Task.await_many(60_000)

    assert [{:ok, %Model{ref: ref}}] = Enum.uniq(models)
    assert is_reference(ref)
  end

  test "the encoders come from the cache the second time", %{opts: opts} do
    {:ok, model} = Model.load(opts)
    assert Path.expand(Model.info(model).encoders) =~ opts[:cache_dir]
    assert [_ | _] = files = Path.wildcard(Path.join(opts[:cache_dir], "**/*.*"))

    :ok = Model.unload(model)
    {:ok, model} = Model.load(opts)
    assert Path.expand(Model.info(model).encoders) =~ opts[:cache_dir]
    assert Path.wildcard(Path.join(opts[:cache_dir], "**/*.*")) == files
  end

  test "encoders that were exported elsewhere are used on request", %{opts: opts, tmp_dir: dir} do
    {:ok, model} = Model.load(opts)
    mine = Path.join(dir, "mine")
    File.cp_r!(Model.info(model).encoders, mine)

    own = Keyword.put(opts, :torchscript, mine)
    on_exit(fn -> Model.unload(own) end)
    assert {:ok, other} = Model.load(own)
    assert %{format: "torchscript", weights: ^mine} = Model.info(other)
    assert Model.encode_texts(other, ["a dog"]) == Model.encode_texts(model, ["a dog"])

    File.rm!(Path.join(mine, "text.pt"))
    Model.unload(own)
    assert {:error, %Error{reason: :not_found} = error} = Model.load(own)
    assert Exception.message(error) =~ "text.pt"
  end

  test "a model that was unloaded is loaded anew", %{opts: opts} do
    {:ok, model} = Model.load(opts)
    assert Model.unload(model) == :ok
    assert Model.unload(model) == :ok

    assert {:error, {:model_unloaded, _}} = Native.Torch.encode_texts(model.ref, ["a dog"])

    assert {:error, %Error{reason: :model_unloaded}} = Model.encode_texts(model, ["a dog"])

    {:ok, other} = Model.load(opts)
    assert other.ref != model.ref
    assert {:ok, _} = Model.encode_texts(other, ["a dog"])

    # The first one is gone already, and is not the second.
    assert Model.unload(model) == :ok
    assert Model.load(opts) == {:ok, other}

    assert Model.unload(opts) == :ok
    assert {:error, %Error{reason: :model_unloaded}} = Model.encode_texts(other, ["a dog"])
  end

  test "a process killed while it loads leaves nothing behind that is in the way",
       %{opts: opts, directory: directory} do
    # The native library goes on with what it began, whatever becomes of the process.
    key = {{:directory, directory}, :cpu, opts[:cache_dir], nil}
    child = {ModelServer, {key, Model, Options.model!(opts)}}
    {:ok, server} = DynamicSupervisor.start_child(Image.ZeroShot.ModelSupervisor, child)
    Process.exit(server, :kill)

    assert {:ok, model} = Model.load(opts)
    assert model.key == key
    assert {:ok, _} = Model.encode_texts(model, ["a dog"])
  end

  test "a model that is unloaded while it is used is an error at most", %{opts: opts} do
    {:ok, _} = Model.load(opts)

    users =
      for _ <- 1..8 do
        Task.async(fn -> for _ <- 1..10, do: ZeroShot.try_label(@dog, ["cat", "dog"], opts) end)
      end

    for _ <- 1..5, do: assert(Model.unload(opts) == :ok)

    for {outcome, result} <- users |> Task.await_many(60_000) |> List.flatten() do
      case outcome do
        :ok -> assert result == "dog"
        :error -> assert result.reason == :model_unloaded
      end
    end
  end

  describe "a directory that holds no model" do
    defp fault(opts) do
      assert {:error, %Error{} = error} = Model.load(opts)
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

      assert {:ok, _} = Model.load(opts)
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

      assert {:ok, _} = Model.load(opts)
    end
  end

  test "a cache that cannot be written is no obstacle", %{opts: opts, tmp_dir: dir} do
    file = Path.join(dir, "a-file")
    File.write!(file, "")
    opts = Keyword.put(opts, :cache_dir, Path.join(file, "cache"))
    assert {:ok, model} = Model.load(opts)
    assert %{encoders: nil, encoders_note: note} = Model.info(model)
    assert is_binary(note)
    Model.unload(model)
  end
end
