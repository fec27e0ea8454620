defmodule Image.ZeroShot.FewShotTest do
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Image.ZeroShot
  alias Image.ZeroShot.{Classifier, Embedding, Error}
  alias Image.ZeroShot.Call.Vectors
  alias Image.ZeroShot.Test.Upload

  @opts [repo: :embedded, device: :cpu]
  @dog {:path, "priv/samples/dog.jpg"}
  @cat {:path, "priv/samples/cat.png"}
  @pizza {:path, "priv/samples/pizza.webp"}

  defp compile(labels, more \\ []), do: ZeroShot.classifier(labels, more ++ @opts)

  # The rows of a classifier, as embeddings.
  defp rows(classifier) do
    like = ZeroShot.embed(@dog, @opts)
    rows = Vectors.split(classifier.texts, Embedding.dim(like))
    for row <- rows, do: %{like | vector: row}
  end

  defp mean(embeddings) do
    sums = embeddings |> Enum.map(&Embedding.to_list/1) |> Enum.zip_with(&Enum.sum/1)
    vector = for x <- sums, into: <<>>, do: <<x::float-32-little>>
    one = hd(embeddings)
    {:ok, mean} = Embedding.from_binary(vector, model: one.model, commit: one.commit)
    mean
  end

  defp assert_same(one, other),
    do: assert_in_delta(Embedding.similarity(one, other), 1.0, 1.0e-5)

  test "pictures and prompts of a label are averaged by kind" do
    classifier =
      compile(%{
        1 => [{:picture, @dog}, {:picture, @cat}, "a dog", "a cat", "a pet"],
        2 => [{:picture, @pizza}, "a pizza"]
      })

    pictures = mean(ZeroShot.embed([@dog, @cat], @opts))
    prompts = mean(ZeroShot.embed_text(["a dog", "a cat", "a pet"], @opts))
    assert [one, _] = rows(classifier)
    assert_same(one, mean([pictures, prompts]))
    assert Classifier.info(classifier).labels == [1, 2]
  end

  test ":picture_weight is what the pictures count" do
    labels = [{:dog, [{:picture, @dog}, "a dog"]}, {:cat, [{:picture, @cat}, "a cat"]}]
    assert [dog, _] = rows(compile(labels, picture_weight: 1))
    assert_same(dog, ZeroShot.embed(@dog, @opts))
    assert [dog, _] = rows(compile(labels, picture_weight: 0.0))
    assert_same(dog, ZeroShot.embed_text("a dog", @opts))

    for wrong <- [-0.1, 1.1, nil, "half"] do
      assert_raise ArgumentError,
                   ~r/expected :picture_weight to be a number from 0.0 to 1.0/,
                   fn ->
                     compile(labels, picture_weight: wrong)
                   end
    end
  end

  test "a label may have pictures alone, of every kind" do
    dog = ZeroShot.embed(@dog, @opts)
    file = File.read!("priv/samples/cat.png")
    classifier = compile([{:dog, {:picture, dog}}, {:cat, [{:picture, file}]}])
    assert_same(hd(rows(classifier)), dog)
    assert ZeroShot.label(@cat, classifier) == :cat
    assert ZeroShot.label(dog, classifier) == :dog
    assert {:ok, read} = classifier |> Classifier.to_binary() |> Classifier.from_binary(@opts)
    assert ZeroShot.label(@cat, read) == :cat
  end

  test "labels of several parts keep their pictures" do
    many = for n <- 1..600, do: {n, [{:picture, @pizza}, "thing #{n}"]}
    dog = ZeroShot.embed(@dog, @opts)
    classifier = compile(many ++ [{:dog, [{:picture, dog}]}])
    assert ZeroShot.label(@dog, classifier) == :dog
    # The mean of one vector, scaled anew: the last bit may differ.
    assert_in_delta Embedding.similarity(List.last(rows(classifier)), dog), 1.0, 1.0e-6
  end

  test "a label without pictures among others that have some is warned of" do
    log =
      capture_log(fn ->
        compile([{"dog", [{:picture, @dog}]}, {"cat", "a cat"}, {"pizza", "a pizza"}])
      end)

    assert log =~ "2 of 3 labels have no pictures and will hardly win"
    assert log =~ ~s("cat", "pizza")
    assert capture_log(fn -> compile([{"dog", [{:picture, @dog}, "a dog"]}]) end) == ""
  end

  test "a picture at fault is named by its label and its number" do
    labels = [
      {"cat", "a cat"},
      {"dog", [{:picture, @dog}, "a dog", {:picture, {:path, "no.jpg"}}]}
    ]

    assert {:error, %Error{reason: :not_found, message: message}} =
             ZeroShot.try_classifier(labels, @opts)

    assert message == ~s(label at index 1, picture 2: "no.jpg": no such file)

    foreign = %{ZeroShot.embed(@dog, @opts) | commit: "other"}

    assert {:error, %Error{reason: :wrong_model, message: message}} =
             ZeroShot.try_classifier([{"dog", {:picture, foreign}}], @opts)

    assert message =~ ~r/^label at index 0, picture 1: the embedding is of /
  end

  test "labels with pictures have to be compiled" do
    labels = [{"dog", [{:picture, @dog}]}]

    assert {:error, %Error{reason: :invalid_label, message: message}} =
             ZeroShot.try_classify(@dog, labels, @opts)

    assert message =~
             "label at index 0, picture 1: labels with pictures have to be compiled first"

    assert_raise Error, ~r/compiled first/, fn ->
      [@dog] |> ZeroShot.classify_many(labels, @opts) |> Enum.to_list()
    end

    assert {:error, %Error{reason: :invalid_label, message: message}} =
             ZeroShot.try_classify(@dog, ["dog"], [other: {nil, [{:picture, @cat}]}] ++ @opts)

    assert message == "the background given as :other has pictures"
  end

  test "pictures count towards the limits of prompts" do
    pictures = List.duplicate({:picture, @dog}, 20)

    assert {:error, %Error{reason: :invalid_label, message: message}} =
             ZeroShot.try_classifier([{"dog", pictures}], [max_prompts: 19] ++ @opts)

    assert message =~ ":max_prompts"
  end

  test "only the files of one batch are in memory" do
    name = __MODULE__.Batches
    start_supervised!({ZeroShot.Serving, [name: name, max_batch: 4] ++ @opts})
    bytes = File.read!("priv/samples/dog.jpg")
    {:ok, opened} = Agent.start_link(fn -> {0, []} end)

    picture = %Upload{
      path:
        {:call,
         fn ->
           {:ok, info} = ZeroShot.info(serving: name)
           count = info.batches.pictures

           Agent.update(opened, fn {all, held} -> {all + 1, [all + 1 - count | held]} end)
           {:ok, {:encoded, bytes}}
         end}
    }

    labels = [{"dog", List.duplicate({:picture, picture}, 30)}, {"cat", {:picture, @cat}}]
    classifier = ZeroShot.classifier(labels, serving: name)
    assert ZeroShot.label(@dog, classifier) == "dog"
    assert {30, held} = Agent.get(opened, & &1)
    assert Enum.max(held) == 4
  end

  test "a misspelt file name is an error before the pictures in front of it are read" do
    test = self()
    picture = %Upload{path: {:call, fn -> send(test, :read) end}}
    labels = [{"dog", [{:picture, picture}, {:picture, {:path, "no.jpg"}}]}]

    assert {:error, %Error{reason: :not_found, message: message}} =
             ZeroShot.try_classifier(labels, @opts)

    assert message == ~s(label at index 0, picture 2: "no.jpg": no such file)
    refute_received :read
    labels = [{"dog", {:picture, {:path, "priv/samples/dog.jpg"}}}]

    assert {:error, %Error{reason: :image_too_large}} =
             ZeroShot.try_classifier(labels, [max_bytes: 10] ++ @opts)
  end
end
