defmodule Image.ZeroShot.EmbedTest do
  # Counts what the image tower runs.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot
  alias Image.ZeroShot.{Classifier, Embedding, Error}
  alias Image.ZeroShot.Test.{Cluster, Embeddings, Pictures}

  @opts [repo: :embedded, device: :cpu]
  @labels ["cat", "dog", "pizza", "rocket"]

  # 12 dimensions.
  @other [repo: {:local, "test/fixtures/checkpoints/laion-b32"}, device: :cpu]

  defp picture(name), do: {:path, Path.join("priv/samples", name)}
  defp embed(picture, more \\ []), do: ZeroShot.embed(picture, more ++ @opts)

  # How many pictures and prompts the towers ran during a function.
  defp towers(function) do
    before = counts()
    result = function.()
    later = counts()

    {result,
     %{pictures: later.pictures - before.pictures, prompts: later.prompts - before.prompts}}
  end

  # What a stream that was halted had begun may still run.
  defp counts do
    :ok = ZeroShot.load(@opts)
    eventually(fn -> match?(%{admitted: 0, waiting: 0, running: 0}, info().queue) end)
    info().batches
  end

  defp info do
    {:ok, info} = ZeroShot.info(@opts)
    info
  end

  defp same(results, others) do
    assert Enum.map(results, & &1.label) == Enum.map(others, & &1.label)
    for {a, b} <- Enum.zip(results, others), do: assert_in_delta(a.score, b.score, 1.0e-5)
  end

  describe "embed/2" do
    test "is the unit vector of the image tower, with its model" do
      embedding = embed(picture("dog.jpg"))
      info = Embeddings.info!(@opts)
      {:ok, pixels} = Pictures.pixels(Pictures.sample("dog.jpg"), info.preprocessing)
      {:ok, row} = Embeddings.images([pixels])
      floats = for <<x::float-32-native <- row>>, do: x

      for {x, y} <- Enum.zip(floats, Embedding.to_list(embedding)),
          do: assert_in_delta(x, y, 1.0e-5)

      assert_in_delta Enum.sum(for(x <- Embedding.to_list(embedding), do: x * x)), 1.0, 1.0e-5
      assert %{kind: :picture, model: "emoji-clip"} = embedding
      assert embedding.commit =~ ~r/^local-[0-9a-f]{16}$/
      assert Embedding.dim(embedding) == info.dim
    end

    test "embeds a list in its order, in one batch" do
      pictures = Enum.map(["dog.jpg", "cat.png", "pizza.webp", "dog.jpg"], &picture/1)
      before = counts()
      embeddings = embed(pictures)
      later = counts()
      assert later.pictures - before.pictures == 4
      assert later.count - before.count == 1

      for {one, picture} <- Enum.zip(embeddings, pictures),
          do: assert_in_delta(ZeroShot.similarity(one, picture, @opts), 1.0, 1.0e-5)

      assert embed([]) == []
    end

    test "runs a list that is longer than a batch in parts" do
      :ok = ZeroShot.load(@opts)
      count = info().max_batch + 1
      pictures = List.duplicate(picture("dog.jpg"), count)
      {embeddings, ran} = towers(fn -> embed(pictures) end)
      assert length(embeddings) == count
      assert ran.pictures == count
    end

    test "names the picture of a list that is at fault" do
      assert {:error, %Error{reason: :not_found, message: message}} =
               ZeroShot.try_embed([picture("dog.jpg"), picture("none.jpg")], @opts)

      assert message =~ ~r/^picture at index 1: "priv.*none.jpg": no such file/

      assert {:error, %Error{reason: :invalid_image, message: message}} =
               ZeroShot.try_embed([picture("dog.jpg"), picture("cat.png"), "rubbish"], @opts)

      assert message =~ ~r/^picture at index 2: /
      assert_raise Error, fn -> embed("rubbish") end
    end

    test "leaves embeddings as they are, of pictures and of texts" do
      text = ZeroShot.embed_text("a dog", @opts)
      dog = embed(picture("dog.jpg"))
      assert embed(text) == text
      assert [^text, %{kind: :picture}, ^dog] = embed([text, picture("cat.png"), dog])
      assert [{^text, {:ok, ^text}}] = [text] |> ZeroShot.embed_many(@opts) |> Enum.to_list()
    end

    test "refuses lists without a bound, and options about labels" do
      for list <- [List.duplicate("", 513), ["" | ""]],
          do: assert_raise(ArgumentError, ~r/at most 512 pictures/, fn -> embed(list) end)

      assert_raise ArgumentError, ~r/unknown option :template/, fn -> embed("", template: nil) end
    end

    test "returns an embedding of its model, and refuses that of another" do
      dog = embed(picture("dog.jpg"))
      {result, ran} = towers(fn -> embed([dog, picture("cat.png"), dog]) end)
      assert [^dog, %Embedding{} = cat, ^dog] = result
      assert cat != dog
      assert ran.pictures == 1

      assert {:error, %Error{reason: :wrong_model, message: message}} =
               ZeroShot.try_embed(dog, @other)

      assert message =~ ~r/"emoji-clip" at local-\w+ \(128 .*"laion-b32" at local-\w+ \(12 /
    end
  end

  describe "embed_text/2" do
    test "embeds the text as it is, whatever the configuration says" do
      Application.put_env(:image_zero_shot, :template, "a drawing of {label}")
      on_exit(fn -> Application.delete_env(:image_zero_shot, :template) end)
      text = ZeroShot.embed_text("a photo of a dog", @opts)
      {:ok, {row, []}} = Embeddings.texts(["a photo of a dog"])

      assert text.vector ==
               for(<<x::float-32-native <- row>>, into: <<>>, do: <<x::float-32-little>>)

      assert %{kind: :text, model: "emoji-clip"} = text
      assert ZeroShot.embed_text("dog", [template: "a photo of a {label}"] ++ @opts) == text
    end

    test "several templates make one vector, in the middle" do
      [one, other] = ZeroShot.embed_text(["a photo of dog", "a drawing of dog"], @opts)
      templates = ["a photo of {label}", "a drawing of {label}"]
      mean = ZeroShot.embed_text("dog", [template: templates] ++ @opts)
      assert_in_delta Embedding.similarity(mean, one), Embedding.similarity(mean, other), 1.0e-5
      assert Embedding.similarity(mean, one) > Embedding.similarity(one, other)
    end

    test "keeps the order of many texts" do
      texts = for n <- 1..600, do: "thing #{n}"
      embeddings = ZeroShot.embed_text(texts, @opts)
      assert length(embeddings) == 600
      assert Enum.at(embeddings, 599) == ZeroShot.embed_text("thing 600", @opts)
      assert ZeroShot.embed_text([], @opts) == []
    end

    test "names the text that is not one" do
      for {texts, message} <- [
            {[:dog], "text at index 0 is not a string: :dog"},
            {["dog", {1, "dog"}], ~s(text at index 1 is not a string: {1, "dog"})},
            {"\xFF", "text at index 0 is not valid UTF-8: <<255>>"},
            {nil, "text at index 0 is not a string: nil"}
          ] do
        assert {:error, %Error{reason: :invalid_label, message: ^message}} =
                 ZeroShot.try_embed_text(texts, @opts)
      end

      long = String.duplicate("a", 5_000)
      assert {:error, %Error{message: message}} = ZeroShot.try_embed_text(long, @opts)
      assert message =~ ":max_label_bytes"
    end
  end

  describe "embed_many/2" do
    test "keeps the order, past failures" do
      pictures = [picture("dog.jpg"), "rubbish", picture("none.jpg"), picture("cat.png")]
      test = self()
      opts = [progress: &send(test, &1), window: 2] ++ @opts

      assert [
               {_, {:ok, %Embedding{kind: :picture} = dog}},
               {"rubbish", {:error, %Error{reason: :invalid_image}}},
               {_, {:error, %Error{reason: :not_found}}},
               {_, {:ok, cat}}
             ] = pictures |> ZeroShot.embed_many(opts) |> Enum.to_list()

      assert_in_delta ZeroShot.similarity(dog, picture("dog.jpg"), @opts), 1.0, 1.0e-5
      assert_in_delta ZeroShot.similarity(cat, picture("cat.png"), @opts), 1.0, 1.0e-5
      assert_received %{done: 4, failed: 2, total: 4}
    end

    test "takes an enumerable without end, and embeddings" do
      dog = embed(picture("dog.jpg"))

      assert [{^dog, {:ok, ^dog}}, {_, {:ok, _}}, {^dog, {:ok, ^dog}}] =
               [dog, picture("cat.png")]
               |> Stream.cycle()
               |> ZeroShot.embed_many([window: 3] ++ @opts)
               |> Enum.take(3)
    end

    test "refuses wrong options at once" do
      for opts <- [[template: nil], [window: 0], [labels: []]],
          do: assert_raise(ArgumentError, fn -> ZeroShot.embed_many([], opts) end)

      assert_raise ArgumentError, fn -> ZeroShot.embed_many(:none, @opts) end
    end
  end

  describe "an embedding in place of a picture" do
    setup do
      %{dog: embed(picture("dog.jpg")), cat: embed(picture("cat.png"))}
    end

    test "has the results of its picture, and the image tower does not run", %{dog: dog} do
      for opts <- [
            [],
            [scores: :cosine],
            [scores: :logits, top_k: 2],
            [multi_label: true],
            [other: ["a photo", "a drawing"]],
            [min_score: 0.5]
          ] do
        expected = ZeroShot.classify(picture("dog.jpg"), @labels, opts ++ @opts)
        {results, ran} = towers(fn -> ZeroShot.classify(dog, @labels, opts ++ @opts) end)
        same(results, expected)
        assert ran == %{pictures: 0, prompts: 0}

        classifier = ZeroShot.classifier(@labels, opts ++ @opts)
        {results, ran} = towers(fn -> ZeroShot.classify(dog, classifier) end)
        same(results, expected)
        assert ran == %{pictures: 0, prompts: 0}
      end

      assert ZeroShot.label(dog, @labels, @opts) == "dog"
    end

    test "is compared with pictures, texts and embeddings", %{dog: dog, cat: cat} do
      {cosine, ran} = towers(fn -> ZeroShot.similarity(dog, cat, @opts) end)
      assert ran.pictures == 0
      expected = ZeroShot.similarity(picture("dog.jpg"), picture("cat.png"), @opts)
      assert_in_delta cosine, expected, 1.0e-5

      {cosine, ran} = towers(fn -> ZeroShot.similarity(picture("dog.jpg"), cat, @opts) end)
      assert ran.pictures == 1
      assert_in_delta cosine, expected, 1.0e-5

      text = ZeroShot.embed_text("a photo of a dog", @opts)
      assert ZeroShot.similarity(dog, text, @opts) > ZeroShot.similarity(cat, text, @opts)
    end

    test "needs no model beside a classifier", %{dog: dog} do
      classifier = ZeroShot.classifier(@labels, @opts)
      :ok = ZeroShot.unload(@opts)
      assert ZeroShot.label(dog, classifier) == "dog"
      assert {:error, %Error{reason: :model_unloaded}} = ZeroShot.info(@opts)
    end

    test "of another model is an error that names both", %{dog: dog} do
      foreign = ZeroShot.embed(picture("dog.jpg"), @other)
      classifier = ZeroShot.classifier(@labels, @opts)
      forged = %{dog | commit: "1f2e"}

      for {one, call} <- [
            {foreign, &ZeroShot.try_classify(&1, @labels, @opts)},
            {foreign, &ZeroShot.try_classify(&1, classifier)},
            {forged, &ZeroShot.try_label(&1, classifier, @opts)},
            {forged, &ZeroShot.try_similarity(&1, dog, @opts)},
            {foreign, &ZeroShot.try_similarity(picture("dog.jpg"), &1, @opts)}
          ] do
        assert {:error, %Error{reason: :wrong_model, message: message}} = call.(one)
        assert message =~ one.commit
        assert message =~ dog.commit
      end
    end

    test "with a vector that is none is an error of its own", %{dog: dog} do
      classifier = ZeroShot.classifier(@labels, @opts)
      nan = :binary.copy(<<0, 0, 0xC0, 0x7F>>, Embedding.dim(dog))
      zero = :binary.copy(<<0>>, byte_size(dog.vector))

      for vector <- [nan, zero, dog.vector <> <<1>>, "", nil, [1.0]],
          bad = %{dog | vector: vector} do
        for result <- [
              ZeroShot.try_classify(bad, classifier),
              ZeroShot.try_classify(bad, @labels, @opts),
              ZeroShot.try_similarity(bad, dog),
              ZeroShot.try_similarity(picture("cat.png"), bad, @opts),
              ZeroShot.try_embed(bad, @opts),
              Classifier.calibrate(classifier, [{dog, "dog"}, {bad, "cat"}])
            ],
            do: assert({:error, %Error{reason: :invalid_embedding}} = result)

        assert [ok: [_ | _], error: %Error{reason: :invalid_embedding}, ok: [_ | _]] =
                 [dog, bad, dog]
                 |> ZeroShot.classify_many(classifier)
                 |> Enum.map(&elem(&1, 1))
      end
    end

    test "goes through classify_many in groups, among pictures", %{dog: dog, cat: cat} do
      classifier = ZeroShot.classifier(@labels, @opts)
      foreign = %{dog | model: "other"}
      many = List.duplicate(cat, 300)
      pictures = [dog, picture("cat.png"), foreign, dog] ++ many ++ ["rubbish", dog]

      for opts <- [[top_k: 1], [], [other: ["a photo"]], [multi_label: true, top_k: 2]] do
        {results, ran} =
          towers(fn -> pictures |> ZeroShot.classify_many(classifier, opts) |> Enum.to_list() end)

        assert Enum.map(results, &elem(&1, 0)) == pictures
        assert ran.pictures == 1

        assert [first, second, third, fourth | more] = Enum.map(results, &elem(&1, 1))
        {results_of_many, [rubbish, last]} = Enum.split(more, 300)
        expected = ZeroShot.classify(dog, classifier, opts)
        for {:ok, results} <- [first, fourth, last], do: same(results, expected)
        expected = ZeroShot.classify(cat, classifier, opts)
        for {:ok, results} <- [second | results_of_many], do: same(results, expected)
        assert {:error, %Error{reason: :wrong_model}} = third
        assert {:error, %Error{reason: :invalid_image}} = rubbish
      end
    end
  end

  describe "on another node" do
    @describetag :capture_log

    setup do
      made = Cluster.distribute()
      peer = Cluster.start()

      on_exit(fn ->
        Cluster.stop(peer)
        if made, do: Cluster.undistribute()
      end)

      name = :"Clip#{System.unique_integer([:positive])}"

      :ok = Cluster.serve_model(peer, [name: name] ++ @opts)

      %{name: name}
    end

    test "pictures and texts are embedded as here, and mix with those from here", %{name: name} do
      assert {:ok, %{node: node}} = ZeroShot.info(serving: name)
      assert node != node()
      pictures = [picture("dog.jpg"), picture("cat.png")]
      there = ZeroShot.embed(pictures, serving: name)
      here = embed(pictures)

      for {one, other} <- Enum.zip(there, here),
          do: assert_in_delta(Embedding.similarity(one, other), 1.0, 1.0e-5)

      [dog | _] = there
      text = ZeroShot.embed_text("a photo of a dog", serving: name)

      assert_in_delta Embedding.similarity(text, ZeroShot.embed_text("a photo of a dog", @opts)),
                      1.0,
                      1.0e-5

      assert ZeroShot.label(dog, @labels, serving: name) == "dog"
      assert ZeroShot.similarity(dog, text, serving: name) == Embedding.similarity(dog, text)

      assert [{_, {:ok, %Embedding{}}}, {_, {:error, %Error{reason: :not_found}}}] =
               [picture("dog.jpg"), picture("none.jpg")]
               |> ZeroShot.embed_many(serving: name)
               |> Enum.to_list()
    end
  end
end
