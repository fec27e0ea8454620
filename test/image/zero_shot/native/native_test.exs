defmodule Image.ZeroShot.NativeTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{Error, Native}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Native.Loader
  alias Image.ZeroShot.Picture.Preprocess
  alias Image.ZeroShot.Serving.Model
  alias Image.ZeroShot.Test.Pictures

  # The library's own modules are loaded already, and stay so.
  defmodule NotLoaded do
    def load(path), do: :erlang.load_nif(path, 0)
  end

  # A copy of its own: the functions are called here as a serving calls them.
  setup_all do
    {:ok, ref, info} = Model.open(Options.load!(repo: :embedded, device: :cpu, concurrency: 2))
    %{model: %{ref: ref, info: info}}
  end

  defp encode(model, pixels, prompts) do
    tag = make_ref()
    :ok = Model.encode(model.ref, tag, pixels, prompts)
    assert_receive {^tag, answer}
    answer
  end

  defp encode_images(model, pixels) do
    {:ok, {images, "", []}} = encode(model, pixels, [])
    images
  end

  defp encode_texts(model, prompts) do
    {:ok, {"", texts, []}} = encode(model, [], prompts)
    texts
  end

  describe "a failure in the native library" do
    # The VM lives, or nothing would be asserted at all; the model has to work as before, too.
    defp assert_well(model), do: assert(<<_, _::binary>> = encode_texts(model, ["a dog"]))

    test "a panic in a function is an error", %{model: model} do
      assert {:error, {:internal, message}} = Native.Torch.drill(:panic, nil)
      assert message =~ "drill"
      assert_well(model)
    end

    test "a panic in the inference thread is an error", %{model: model} do
      assert {:error, {:internal, message}} = Native.Torch.drill(:job_panic, model.ref)
      assert is_binary(message)
      assert_well(model)
    end

    test "a C++ exception is an error", %{model: model} do
      assert {:error, {:torch, message}} = Native.Torch.drill(:cpp_exception, model.ref)
      assert is_binary(message)
      assert_well(model)
    end

    test "happens to many at once, and to nobody else", %{model: model} do
      1..8
      |> Enum.map(fn n ->
        Task.async(fn ->
          case rem(n, 4) do
            0 -> assert {:error, {:internal, _}} = Native.Torch.drill(:panic, nil)
            1 -> assert {:error, {:internal, _}} = Native.Torch.drill(:job_panic, model.ref)
            2 -> assert {:error, {:torch, _}} = Native.Torch.drill(:cpp_exception, model.ref)
            3 -> assert_well(model)
          end
        end)
      end)
      |> Task.await_many(60_000)
    end
  end

  describe "arguments that this library never gives" do
    test "are errors", %{model: model} do
      texts = encode_texts(model, ["a dog", "a cat"])
      row = byte_size(texts) |> div(2)
      image = binary_part(texts, 0, row)

      for {image, texts} <- [
            {image, ""},
            {"", texts},
            {"", ""},
            {image, binary_part(texts, 0, row + 4)},
            {binary_part(image, 0, row - 1), texts},
            {image, texts <> "a"}
          ] do
        scoring = %{
          kind: :softmax,
          logit_scale: 1.0,
          logit_bias: nil,
          threshold: nil,
          top: nil,
          least: nil
        }

        assert {:error, {:invalid_argument, _}} = Native.rank(image, texts, "", scoring)
      end

      assert {:error, {:invalid_argument, _}} = Native.cosine(image, "")
      assert {:error, {:invalid_argument, _}} = Native.cosine(image, texts)

      for pixels <- [["abc"], ["", ""], [:pixels], "pixels"],
          do: assert({:error, {:invalid_argument, _}} = encode(model, pixels, []))

      for prompts <- [[<<255>>], [:prompt], "prompt", [1]],
          do: assert({:error, {:invalid_argument, _}} = encode(model, [], prompts))

      assert encode(model, [], []) == {:ok, {"", "", []}}
    end

    test "of the wrong type raise" do
      assert catch_error(Native.Torch.model_info(make_ref()))
      assert catch_error(Native.Torch.encode(make_ref(), make_ref(), [], []))
      assert catch_error(Native.rank(1, 2, 3, %{}))
      assert catch_error(Native.ensemble(1, 2))
      assert catch_error(Native.preprocess(make_ref(), {:encoded, 1}, %{}, %{}, {1, nil}, nil))
      assert catch_error(Native.preprocess_cancel(make_ref()))
    end

    test "raw pixels that are not as many as they claim", %{model: model} do
      limits = Options.picture(Options.embed!([]))

      for {bytes, height, width, channels} <- [
            {"", 1, 1, 3},
            {"abc", 1, 1, 4},
            {"abcd", 1, 1, 3},
            {"abc", 1, 1, 7},
            {"", 0, 0, 3},
            {"abc", 4_000_000_000, 4_000_000_000, 3}
          ] do
        source = {:raw, bytes, height, width, channels}
        answer = Preprocess.run(source, model.info.preprocessing, limits, :infinity)
        assert {:error, %Error{reason: reason, message: message}} = answer
        assert reason in [:invalid_argument, :invalid_image, :unsupported_image, :image_too_large]
        assert is_binary(message)
      end
    end
  end

  test "a batch is the same as its pictures one by one", %{model: model} do
    pixels = Enum.map(Pictures.samples(), &pixels(&1, model))
    singles = for picture <- pixels, into: "", do: encode_images(model, [picture])
    assert_close(encode_images(model, pixels), singles, 1.0e-5)
  end

  test "a batch of prompts is the same as its prompts one by one", %{model: model} do
    prompts = ["", "dog", "a photo of a dog", "an umbrella in the rain", "🐶", "dog"]
    singles = for prompt <- prompts, into: "", do: encode_texts(model, [prompt])
    assert_close(encode_texts(model, prompts), singles, 1.0e-5)
  end

  test "embeddings are unit vectors", %{model: model} do
    batch = encode_images(model, Enum.map(Pictures.samples(), &pixels(&1, model)))

    for row <- batch |> floats() |> Enum.chunk_every(model.info.dim),
        do: assert_in_delta(row |> Enum.map(&(&1 * &1)) |> Enum.sum(), 1.0, 1.0e-5)
  end

  test "a model that was unloaded is an error, and so is what waited for it" do
    {:ok, ref, info} = Model.open(Options.load!(repo: :embedded, device: :cpu))
    pixels = List.duplicate(:binary.copy(<<0>>, 3 * info.image_size ** 2), 64)
    tags = for _ <- 1..50, do: make_ref()
    for tag <- tags, do: :ok = Model.encode(ref, tag, pixels, [])
    assert Model.close(ref) == :ok
    assert Model.close(ref) == :ok
    assert {:error, %Error{reason: :model_unloaded}} = Model.encode(ref, make_ref(), pixels, [])
  end

  describe "a library that cannot be loaded" do
    test "is named, with what the system said and the way out" do
      message =
        assert_raise(RuntimeError, fn -> Loader.load!(NotLoaded, "no/such/library") end).message

      assert message =~ "Image.ZeroShot cannot load its native library no/such/library.so"
      assert message =~ "`mix compile --force` builds it"
    end

    test "has a way out for each cause" do
      file = "/app/priv/nif_torch.so"

      causes = [
        {:load_failed, "libtorch_cpu.so: cannot open shared object file", "/app/priv/libtorch"},
        {:load_failed, "version `GLIBC_2.38' not found", "built on a newer system"},
        {:load_failed, "version `GLIBCXX_3.4.32' not found", "built on a newer system"},
        {:load_failed, "cannot allocate memory in static TLS block", "GLIBC_TUNABLES"},
        {:load_failed, "cannot open shared object file: No such file", "mix compile --force"},
        {:bad_lib, "Function not found: foo/1", "belong to different versions"},
        {:upgrade, "Upgrade not supported by this NIF library", "restart it"}
      ]

      for {reason, text, way_out} <- causes do
        message = Loader.message(file, reason, text)
        assert message =~ file
        assert message =~ text
        assert message =~ way_out
      end
    end
  end

  describe "a library that is loaded" do
    test "is loaded once, and that is enough" do
      assert Loader.base!() == :ok
      assert Loader.torch() == :ok
    end

    # Hears what is logged. The VM logs a module's refusal when it gets to it.
    defmodule Ear do
      def log(%{msg: message}, %{config: pid}),
        do: send(pid, {:logged, inspect(message, printable_limit: :infinity)})
    end

    defp assert_logged(text) do
      assert_receive {:logged, line}
      if not (line =~ text), do: assert_logged(text)
    end

    test "stays, and its module with it", %{model: model} do
      :ok = :logger.add_handler(__MODULE__, Ear, %{config: self()})
      on_exit(fn -> :logger.remove_handler(__MODULE__) end)

      for module <- [Native, Native.Torch] do
        assert :code.load_file(module) == {:error, :on_load_failure}
        assert_logged("the native library of #{inspect(module)} cannot be exchanged")
      end

      assert_well(model)
      assert {:ok, 1.0} = Native.cosine(<<1.0::float-32-native>>, <<1.0::float-32-native>>)
    end

    test "reaches the variables of C, and those that are set stay as they are" do
      name = "IMAGE_ZERO_SHOT_TEST_#{System.unique_integer([:positive])}"
      assert Native.put_default(name, "1") == {:ok, :set}
      assert Native.put_default(name, "2") == {:ok, :kept}
      # Set when the application started, before libgomp was loaded.
      assert Native.put_default("GOMP_SPINCOUNT", "1") == {:ok, :kept}
    end
  end

  defp pixels(name, model) do
    {:ok, pixels} = Pictures.pixels(Pictures.sample(name), model.info.preprocessing)
    assert byte_size(pixels) == 3 * model.info.image_size ** 2
    pixels
  end

  defp floats(binary), do: for(<<float::float-32-native <- binary>>, do: float)

  defp assert_close(a, b, delta) do
    assert byte_size(a) == byte_size(b)
    for {x, y} <- Enum.zip(floats(a), floats(b)), do: assert_in_delta(x, y, delta)
  end
end
