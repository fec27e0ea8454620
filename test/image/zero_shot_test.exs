defmodule Image.ZeroShotTest do
  use ExUnit.Case, async: false

  alias Image.ZeroShot
  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Test.Pictures

  doctest Image.ZeroShot

  @labels ["dog", "cat", "pizza", "rocket", "guitar", "red apple", "umbrella", "airplane"]

  defp opts(more \\ []), do: Keyword.merge([repo: :embedded, device: :cpu], more)
  defp classify(picture, labels, more \\ []), do: ZeroShot.classify(picture, labels, opts(more))
  defp by_label(results), do: Map.new(results, &{&1.label, &1.score})

  describe "classify/3" do
    test "scores sum to 1, are sorted, and each label is there" do
      for name <- Pictures.samples(), count <- [1, 2, 8] do
        labels = Enum.take(@labels, count)
        results = classify(Pictures.sample(name), labels)
        scores = Enum.map(results, & &1.score)

        assert_in_delta Enum.sum(scores), 1.0, 1.0e-6
        assert scores == Enum.sort(scores, :desc)
        assert Enum.all?(scores, &(is_float(&1) and &1 >= 0.0))
        assert Enum.sort(Enum.map(results, & &1.label)) == Enum.sort(labels)
        assert Enum.all?(results, &(Map.keys(&1) == [:label, :score]))
      end
    end

    test "a single label has it all" do
      assert [%{label: "dog", score: 1.0}] = classify(Pictures.sample("dog.jpg"), ["dog"])
    end

    test "the order of the labels does not matter" do
      picture = Pictures.sample("pizza.webp")
      expected = picture |> classify(@labels) |> by_label()

      for shift <- 1..7 do
        {head, tail} = Enum.split(@labels, shift)

        for labels <- [tail ++ head, Enum.reverse(tail ++ head)] do
          for {label, score} <- picture |> classify(labels) |> by_label() do
            assert_in_delta score, expected[label], 1.0e-6
          end
        end
      end
    end

    test "duplicates are kept and share; ties stay in the order given" do
      picture = Pictures.sample("cat.png")

      # Of the same prompt: equal scores that can be told apart.
      for names <- [[:a, :b, :c, :dog], [:c, :dog, :a, :b], [:b, :dog, :c, :a]] do
        labels = for name <- names, do: {name, if(name == :dog, do: "dog", else: "cat")}
        results = classify(picture, labels)
        assert Enum.map(results, & &1.label) == List.delete(names, :dog) ++ [:dog]
        assert [score, score, score, _dog] = Enum.map(results, & &1.score)
      end

      assert ["cat", "cat", "dog"] =
               Enum.map(classify(picture, ["cat", "dog", "cat"]), & &1.label)
    end

    test "the template makes the prompt" do
      picture = Pictures.sample("dog.jpg")
      scores = fn labels, more -> Enum.map(classify(picture, labels, more), & &1.score) end

      assert_same(
        scores.(["dog", "cat"], []),
        scores.(["a photo of dog", "a photo of cat"], template: nil)
      )

      assert_same(
        scores.(["dog", "cat"], template: "a drawing of a {label}"),
        scores.(["a drawing of a dog", "a drawing of a cat"], template: "{label}")
      )

      refute scores.(["dog", "cat"], []) == scores.(["dog", "cat"], template: nil)
    end

    test "labels may be any text" do
      labels = ["", " ", "a\0b", "🐶", "👩‍👩‍👧", "كلب", "<|endoftext|>", "{label}", "\n\t", "dog"]
      results = classify(Pictures.sample("dog.jpg"), labels)
      assert_in_delta results |> Enum.map(& &1.score) |> Enum.sum(), 1.0, 1.0e-6
      assert length(results) == length(labels)
    end

    test "500 labels are scored in one call" do
      labels = for n <- 1..500, do: "thing number #{n}"
      results = classify(Pictures.sample("dog.jpg"), ["dog" | labels])
      assert hd(results).label == "dog"
      assert_in_delta results |> Enum.map(& &1.score) |> Enum.sum(), 1.0, 1.0e-6
    end
  end

  test "label/3 is the first of classify/3" do
    for name <- Pictures.samples() do
      picture = Pictures.sample(name)
      assert ZeroShot.label(picture, @labels, opts()) == hd(classify(picture, @labels)).label
    end

    ties = [b: "cat", a: "cat", c: "cat"]
    assert ZeroShot.label(Pictures.sample("cat.png"), ties, opts()) == :b
  end

  test "the samples are what they are called" do
    for name <- Pictures.samples() do
      expected = name |> Path.rootname() |> String.replace("-", " ")
      assert ZeroShot.label(Pictures.sample(name), @labels, opts()) == expected
    end
  end

  describe "similarity/3" do
    test "is a cosine, and the same both ways" do
      [a, b] = [Pictures.sample("dog.jpg"), Pictures.sample("rocket.png")]
      assert_in_delta ZeroShot.similarity(a, a, opts()), 1.0, 1.0e-5

      similarity = ZeroShot.similarity(a, b, opts())
      assert similarity > -1.0 and similarity < 0.95
      assert_in_delta ZeroShot.similarity(b, a, opts()), similarity, 1.0e-5
    end

    test "says which picture is at fault" do
      dog = Pictures.sample("dog.jpg")
      missing = {:path, "missing.png"}

      assert {:error, %Error{reason: :not_found, message: message}} =
               ZeroShot.try_similarity(missing, dog, opts())

      assert message == ~s(first picture: "missing.png": no such file)

      assert {:error, %Error{message: "second picture: " <> _}} =
               ZeroShot.try_similarity(dog, "garbage", opts())
    end

    test "says what to do with a text" do
      dog = Pictures.sample("dog.jpg")
      way_out = "classify with scores: :cosine, or give what Image.ZeroShot.embed_text/2 returns"

      for {one, other, which} <- [{dog, "a dog", "second"}, {"a dog", dog, "first"}] do
        assert {:error, %Error{reason: :invalid_image, message: message}} =
                 ZeroShot.try_similarity(one, other, opts())

        assert String.starts_with?(message, which <> " picture: ")
        assert String.ends_with?(message, "; to compare with a text, " <> way_out)
      end

      assert {:error, %Error{message: message}} =
               ZeroShot.try_similarity("a dog", <<0xFF, 0xD8>>, opts())

      assert message =~ way_out
      assert {:error, %Error{message: message}} = ZeroShot.try_similarity(dog, <<0xFF>>, opts())
      refute message =~ way_out
    end
  end

  describe "what is wrong" do
    test "with a picture or a label is returned by try_ verbs and raised by the others" do
      dog = Pictures.sample("dog.jpg")

      cases = [
        {{:path, "missing.png"}, ["dog"], :not_found, ~s("missing.png": no such file)},
        {{:path, "priv"}, ["dog"], :io, ~s("priv": is a directory)},
        {dog, [], :invalid_label, "expected at least one label, got: []"},
        {dog, ["a", 1], :invalid_label,
         "label at index 1 is not a string or {label, prompts}: 1"},
        {dog, [<<255>>], :invalid_label, "label at index 0 is not valid UTF-8: <<255>>"}
      ]

      for {picture, labels, reason, message} <- cases do
        error = %Error{reason: reason, message: message}
        assert ZeroShot.try_classify(picture, labels, opts()) == {:error, error}
        assert ZeroShot.try_label(picture, labels, opts()) == {:error, error}
        assert_raise Error, message, fn -> ZeroShot.classify(picture, labels, opts()) end
        assert_raise Error, message, fn -> ZeroShot.label(picture, labels, opts()) end
      end

      assert_raise Error, ~s(first picture: "x": no such file), fn ->
        ZeroShot.similarity({:path, "x"}, dog, opts())
      end
    end

    test "with an option raises in both forms" do
      message = "unknown option :tempalte; did you mean :template?"

      for verb <- [:classify, :try_classify, :label, :try_label] do
        assert_raise ArgumentError, message, fn ->
          apply(ZeroShot, verb, [Pictures.sample("dog.jpg"), ["dog"], opts(tempalte: "{label}")])
        end
      end

      for verb <- [:similarity, :try_similarity] do
        assert_raise ArgumentError, ~r/^unknown option :template;/, fn ->
          apply(ZeroShot, verb, ["a", "b", opts(template: "{label}")])
        end
      end
    end

    test "with the model does not load it first" do
      # Nor asks anybody for it.
      opts = [repo: "acme/none", offline: true, hub_cache: "no/such/directory"]

      for verb <- [:try_classify, :try_label] do
        assert {:error, %Error{reason: :offline}} =
                 apply(ZeroShot, verb, [Pictures.sample("dog.jpg"), ["dog"], opts])

        # The picture and the labels are looked at before the model is.
        assert {:error, %Error{reason: :not_found}} =
                 apply(ZeroShot, verb, [{:path, "x"}, ["dog"], opts])

        assert {:error, %Error{reason: :invalid_label}} =
                 apply(ZeroShot, verb, [Pictures.sample("dog.jpg"), [], opts])
      end
    end

    test "with a file is told with its name, and a file name for a file is pointed out" do
      assert {:error, error} = ZeroShot.try_label({:path, "mix.exs"}, ["dog"], opts())
      assert error.reason in [:unsupported_image, :invalid_image]
      assert String.starts_with?(error.message, ~s("mix.exs": ))

      assert {:error, error} = ZeroShot.try_label("priv/samples/dog.jpg", ["dog"], opts())

      assert String.ends_with?(
               error.message,
               "; a string is taken as the bytes of a picture: to read a file give " <>
                 ~s({:path, "priv/samples/dog.jpg"})
             )

      for address <- [
            "https://example.org/dog.jpg",
            "HTTP://example.org/dog.jpg",
            "data:image/png;base64,aGk="
          ],
          picture <- [address, {:path, address}] do
        assert {:error, error} = ZeroShot.try_label(picture, ["dog"], opts())

        assert String.ends_with?(
                 error.message,
                 "; addresses are not fetched: download the picture first, and give its bytes"
               )

        refute error.message =~ "give {:path"
      end

      assert {:error, error} = ZeroShot.try_label(<<1, 2, 3, 255>>, ["dog"], opts())
      refute error.message =~ ":path"
    end
  end

  test "the configured model is used where none is given" do
    Application.put_env(:image_zero_shot, :repo, :embedded)
    on_exit(fn -> Application.delete_env(:image_zero_shot, :repo) end)

    assert ZeroShot.label(Pictures.sample("dog.jpg"), @labels) == "dog"

    Application.put_env(:image_zero_shot, :repo, {:local, "no/such/model"})

    assert {:error, %Error{reason: :not_found}} =
             ZeroShot.try_label(Pictures.sample("dog.jpg"), @labels)
  end

  test "callers at once get what they would get alone" do
    expected = Map.new(Pictures.samples(), &{&1, classify(Pictures.sample(&1), @labels)})

    1..40
    |> Enum.map(fn n ->
      name = Enum.at(Pictures.samples(), rem(n, 8))
      Task.async(fn -> {name, classify(Pictures.sample(name), @labels)} end)
    end)
    |> Task.await_many(60_000)
    |> Enum.each(fn {name, results} ->
      for {label, score} <- by_label(results) do
        assert_in_delta score, by_label(expected[name])[label], 1.0e-6
      end
    end)
  end

  defp assert_same(a, b) do
    for {x, y} <- Enum.zip(a, b), do: assert_in_delta(x, y, 1.0e-6)
  end
end
