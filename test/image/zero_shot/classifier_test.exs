defmodule Image.ZeroShot.ClassifierTest do
  # Catches what is logged, and counts atoms.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Image.ZeroShot
  alias Image.ZeroShot.{Classifier, Error}
  alias Image.ZeroShot.Test.{Embeddings, Pictures}

  # Few examples are shown to be calibrated with.
  @moduletag :capture_log

  doctest Image.ZeroShot.Classifier

  @opts [repo: :embedded, device: :cpu]
  @dog Pictures.sample("dog.jpg")

  defp compile(labels, more \\ []), do: labels |> ZeroShot.classifier(more ++ @opts) |> settled()

  defp classify(labels, opts \\ []), do: @dog |> ZeroShot.classify(labels, opts) |> settled()

  # The serving answers first and remembers then; this comes after both.
  defp settled(result) do
    {:ok, _info} = ZeroShot.info(@opts)
    result
  end

  defp other_model(name), do: {:local, Path.join("test/fixtures/checkpoints", name)}

  describe "a classifier" do
    test "stands for its labels, with the same scores" do
      labels = ["dog", "cat", "pizza", "dog"]

      for more <- [[], [template: nil], [other: "none of these"], [multi_label: true]] do
        classifier = compile(labels, more)

        assert classify(classifier) ==
                 classify(labels, more ++ @opts)

        assert ZeroShot.label(@dog, classifier) == "dog"
        assert ZeroShot.try_label(@dog, classifier) == {:ok, "dog"}
      end
    end

    test "returns any term as it was given, in a list or a map" do
      terms = [:dog, 17, 1.5, nil, {"a", [1 | 2]}, %{id: 1}, self(), make_ref(), "犬"]
      prompts = for n <- 1..length(terms), do: "a photo of thing #{n}"
      pairs = Enum.zip(terms, prompts)

      assert %{labels: ^terms, truncated: []} = Classifier.info(compile(pairs))
      results = classify(compile(pairs))
      assert Enum.sort(Enum.map(results, & &1.label)) == Enum.sort(terms)
      assert results == classify(pairs, @opts)

      map = Map.new(pairs)

      assert Classifier.info(compile(map)).labels ==
               map |> Map.to_list() |> Enum.map(&elem(&1, 0))
    end

    test "has a unit vector for each label" do
      classifier = compile(["cat", {:d, ["a dog", "a puppy"]}, "cat"])
      dim = Embeddings.info!().dim
      rows = classifier.texts |> floats() |> Enum.chunk_every(dim)

      assert [cat, _dog, cat] = rows
      for row <- rows, do: assert_in_delta(Enum.sum(Enum.map(row, &(&1 * &1))), 1.0, 1.0e-5)
    end

    test "is shown briefly, without its numbers and its token" do
      classifier = compile(List.duplicate("secret prompt", 3), token: "hf_canary")
      assert inspect(classifier) == ~s(#Image.ZeroShot.Classifier<3 labels, "emoji-clip">)
      assert inspect(compile(["a"])) == ~s(#Image.ZeroShot.Classifier<1 label, "emoji-clip">)

      # Erlang's own crash reports know no `Inspect`.
      for shown <- [inspect(classifier, structs: false), :io_lib.format(~c"~0p", [classifier])],
          do: refute(IO.iodata_to_binary(shown) =~ "hf_canary")

      refute Classifier.to_binary(classifier) =~ "hf_canary"
      assert classify(classifier) |> length() == 3
    end
  end

  describe "options" do
    test "of the compilation hold for calls, and those of the call win" do
      classifier = compile(["dog", "cat"], scores: :cosine, top_k: 1)
      assert [%{label: "dog", score: cosine}] = classify(classifier)
      assert cosine < 0.9

      assert [_, _] = results = classify(classifier, scores: :softmax, top_k: nil)
      assert_in_delta Enum.sum(Enum.map(results, & &1.score)), 1.0, 1.0e-6
    end

    test "that name another model take the place of all that named the compiled one" do
      classifier = compile(["dog"], other: "none")
      other = other_model("laion-b32")

      assert {:error, %Error{reason: :wrong_model, message: message}} =
               ZeroShot.try_classify(@dog, classifier, repo: other)

      assert message =~
               ~r/^the classifier was compiled for "emoji-clip" at local-\w{16} \(128 dimensions\), /

      assert message =~
               ~r/ and the call goes to "laion-b32" at local-\w{16} \(12 dimensions\); compile /

      start_supervised!({ZeroShot.Serving, name: __MODULE__.Clip, repo: :embedded, device: :cpu})
      assert ZeroShot.label(@dog, classifier, serving: __MODULE__.Clip) == "dog"
      assert ZeroShot.label(@dog, compile(["dog"]), serving: __MODULE__.Clip) == "dog"
      named = ZeroShot.classifier(["dog"], serving: __MODULE__.Clip)
      assert ZeroShot.label(@dog, named, repo: :embedded) == "dog"
    end

    test "that make prompts have nothing to make" do
      for option <- [template: "{label}", max_labels: 9, max_label_bytes: 9] do
        message =
          "expected #{inspect(elem(option, 0))} together with a classifier, " <>
            "whose prompts are compiled"

        assert_raise ArgumentError, String.replace(message, "expected", "expected no"), fn ->
          ZeroShot.try_classify(@dog, compile(["dog"]), [option])
        end
      end
    end

    test "about pictures hold for calls, and those of the call win" do
      small = compile(["dog"], max_bytes: 1)
      assert {:error, %Error{reason: :image_too_large}} = ZeroShot.try_classify(@dog, small)
      assert ZeroShot.label(@dog, small, max_bytes: 1_000_000) == "dog"

      assert {:error, %Error{reason: :image_too_large}} =
               ZeroShot.try_classify(@dog, compile(["dog"]), max_bytes: 1)
    end
  end

  describe "prompts that are too long" do
    setup do
      # What is known already is no news.
      ZeroShot.unload(@opts)
      long = String.duplicate("dog cat ", Embeddings.info!().context_length)
      %{long: long, limit: Embeddings.info!().context_length}
    end

    test "are cut, and told of when they are compiled", %{long: long, limit: limit} do
      labels = ["cat", long, "dog", {:other, ["short", "other " <> long]}]
      {classifier, log} = with_log(fn -> compile(labels) end)

      assert log =~ "2 of 5 prompts are longer than the #{limit} tokens that the model reads"
      assert log =~ ~s("a photo of dog cat dog cat)
      assert log =~ ~s("other dog cat dog cat)
      assert times(log) == 1
      assert Classifier.info(classifier).truncated == [long, :other]

      # Neither by a call, nor when it is compiled or read again.
      assert capture_log(fn ->
               classify(classifier)
               assert compile(labels) == classifier
               {:ok, read} = classifier |> Classifier.to_binary() |> Classifier.from_binary(@opts)
               assert Classifier.info(read).truncated == [long, :other]
             end) == ""
    end

    test "are told of once by calls with the same labels", %{long: long} do
      call = fn labels -> classify(labels, @opts) end
      assert times(capture_log(fn -> call.(["cat", long]) end)) == 1
      assert capture_log(fn -> call.(["cat", long]) end) == ""
      assert capture_log(fn -> call.([long, "dog"]) end) == ""
      assert times(capture_log(fn -> call.(["cat", "new " <> long]) end)) == 1
    end

    test "of the background are told of too", %{long: long} do
      log = capture_log(fn -> classify(["cat"], [other: long] ++ @opts) end)
      assert log =~ "1 of 2 prompts"

      classifier = compile(["cat"], other: "new " <> long)
      assert capture_log(fn -> classify(classifier) end) =~ "1 of 1 prompts"
      assert capture_log(fn -> classify(classifier) end) == ""
    end

    test "are told of once and briefly, however many", %{long: long} do
      labels = for n <- 1..600, do: if(rem(n, 30) == 0, do: "#{n} " <> long, else: "#{n}")
      log = capture_log(fn -> assert length(Classifier.info(compile(labels)).truncated) == 20 end)
      assert log =~ "20 of 600 prompts"
      assert times(log) == 1
      assert byte_size(log) < 800
    end

    test "are shown as text, whatever is in them", %{long: long} do
      assert capture_log(fn -> compile(["\e[31m\uFFFF" <> long]) end) =~
               ~s("a photo of \\e[31m\\x{FFFF}dog cat)
    end

    test "are no matter where there are none" do
      assert capture_log(fn -> compile(["cat", "dog"]) end) == ""
    end
  end

  defp times(log), do: length(String.split(log, "prompts are longer")) - 1
  defp floats(binary), do: for(<<float::float-32-native <- binary>>, do: float)
end
