defmodule Image.ZeroShot.WrongArgumentsTest do
  # Every public function with wrong arguments of every kind: the answer is an error in our words, never one
  # from inside.

  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.{Classifier, Embedding, Error, Hub, Index, Serving, Source, Telemetry}

  @model [repo: :embedded]
  @dog {:path, "priv/samples/dog.jpg"}
  @labels ["cat", "dog"]

  defmodule Foreign do
    defstruct [:vector, :labels, :ref, :model]
  end

  # One of each kind.
  defp wrong do
    [
      nil,
      1,
      1.5,
      "x",
      <<1::3>>,
      :nobody,
      [],
      [nil],
      [:a],
      [1 | 2],
      ["a" | "b"],
      %{},
      %{a: 1},
      {},
      {:path, nil},
      {:text, ["a", "b"]},
      self(),
      make_ref(),
      fn x -> x end,
      %Foreign{},
      %Embedding{vector: nil, model: nil, commit: nil, kind: nil},
      %Classifier{
        labels: nil,
        texts: nil,
        model: nil,
        truncated: nil,
        probe: nil,
        template: nil,
        opts: nil
      },
      %Index{ref: nil}
    ]
  end

  # Public functions with arguments that are right.
  defp calls do
    embedding = ZeroShot.embed(@dog, @model)
    classifier = ZeroShot.classifier(@labels, @model)
    index = Index.new()
    :ok = Index.put(index, 1, embedding)
    binary = Embedding.to_binary(embedding)

    [
      {ZeroShot, :classify, [@dog, @labels, @model]},
      {ZeroShot, :try_classify, [@dog, @labels, @model]},
      {ZeroShot, :try_classify, [embedding, classifier, []]},
      {ZeroShot, :label, [@dog, @labels, @model]},
      {ZeroShot, :try_label, [@dog, @labels, @model]},
      {ZeroShot, :explain, [@dog, @labels, @model]},
      {ZeroShot, :try_explain, [@dog, @labels, @model]},
      {ZeroShot, :classify_many, [[@dog], @labels, @model]},
      {ZeroShot, :similarity, [@dog, embedding, @model]},
      {ZeroShot, :try_similarity, [embedding, @dog, @model]},
      {ZeroShot, :try_similarity, [embedding, embedding, @model]},
      {ZeroShot, :suggest, [@dog, [vocabulary: @labels] ++ @model]},
      {ZeroShot, :try_suggest, [@dog, [vocabulary: @labels] ++ @model]},
      {ZeroShot, :embed, [@dog, @model]},
      {ZeroShot, :try_embed, [@dog, @model]},
      {ZeroShot, :embed_text, ["a dog", @model]},
      {ZeroShot, :try_embed_text, ["a dog", @model]},
      {ZeroShot, :embed_many, [[@dog], @model]},
      {ZeroShot, :classifier, [@labels, @model]},
      {ZeroShot, :try_classifier, [@labels, @model]},
      {Classifier, :info, [classifier]},
      {Classifier, :calibrate, [classifier, [{embedding, "dog"}], []]},
      {Classifier, :to_binary, [classifier]},
      {Classifier, :from_binary, [Classifier.to_binary(classifier), @model]},
      {Embedding, :dim, [embedding]},
      {Embedding, :to_binary, [embedding]},
      {Embedding, :from_binary, [binary, []]},
      {Embedding, :from_binary, [embedding.vector, [model: "my/model"]]},
      {Embedding, :to_list, [embedding]},
      {Embedding, :to_nx, [embedding]},
      {Embedding, :to_pgvector, [embedding, :wire]},
      {Embedding, :to_pgvector, [embedding, :struct]},
      {Embedding, :similarity, [embedding, embedding]},
      {Hub, :fetch, ["openai/clip-vit-base-patch32", [offline: true, hub_cache: "no/such"]]},
      {Hub, :cached, ["openai/clip-vit-base-patch32", [hub_cache: "no/such"]]},
      {Index, :new, [[]]},
      {Index, :start_link, [[name: __MODULE__.Started]]},
      {Index, :put, [index, 1, embedding]},
      {Index, :put_many, [index, [{1, embedding}]]},
      {Index, :delete, [index, 1]},
      {Index, :member?, [index, 1]},
      {Index, :size, [index]},
      {Index, :ids, [index]},
      {Index, :info, [index]},
      {Index, :nearest, [index, embedding, []]},
      {Index, :nearest, [index, @dog, @model]},
      {Index, :nearest_many, [index, [embedding], []]},
      {Index, :save, [index, "no/such/directory/x.index"]},
      {Index, :load, ["priv/samples/dog.jpg", []]},
      {Serving, :child_spec, [[name: __MODULE__.Child]]},
      {Serving, :start_link, [[name: __MODULE__.Clip, repo: {:local, "no/such"}]]},
      {Source, :prepare,
       [@dog, %{max_bytes: 1_000_000, max_pixels: 1_000_000, max_side: 10_000}]},
      {Telemetry, :metrics, []},
      {ZeroShot.Test, :child_spec, [[name: __MODULE__.Child]]},
      {ZeroShot.Test, :start_link, [[name: __MODULE__.Stub]]},
      {ZeroShot.Test, :stub, [__MODULE__.Stubbed, "dog"]},
      {ZeroShot.Test, :allow, [__MODULE__.Stubbed, self(), self()]},
      {ZeroShot.Test, :share, [__MODULE__.Stubbed]},
      {ZeroShot.Test, :calls, [__MODULE__.Stubbed]},
      {ZeroShot, :load, [@model]},
      {ZeroShot, :unload, [[repo: {:local, "no/such"}]]},
      {ZeroShot, :info, [@model]},
      {ZeroShot, :devices, []}
    ]
  end

  test "every public function answers wrong arguments of every kind in words of ours" do
    start_supervised!({ZeroShot.Test, name: __MODULE__.Stubbed})

    faults =
      for {module, function, right} <- calls(),
          {argument, place} <- Enum.with_index(right),
          wrong <- wrong(),
          # No options are right too, and name the default model.
          not (wrong == [] and Keyword.keyword?(argument)),
          fault = fault(module, function, List.replace_at(right, place, wrong)),
          do:
            "#{inspect(module)}.#{function}, argument #{place + 1}, #{inspect(wrong, structs: false)}: #{fault}"

    assert faults == [], Enum.join(faults, "\n")
  end

  defp fault(module, function, arguments) do
    try do
      case apply(module, function, arguments) do
        stream when is_function(stream, 2) -> Enum.to_list(stream)
        other -> other
      end
    rescue
      error in [Error] -> words(error.message)
      error in [ArgumentError] -> ours(Exception.message(error))
      other -> "#{inspect(other.__struct__)}: #{Exception.message(other)}"
    catch
      kind, reason -> "#{kind} #{inspect(reason)}"
    else
      {:error, %Error{message: message}} -> words(message)
      {:error, other} -> "an error of another kind: #{inspect(other)}"
      _answer -> nil
    end
  end

  defp words(message),
    do: if(message =~ ~r/\w{3}/, do: nil, else: "no words: #{inspect(message)}")

  defp ours(message) do
    # Some say what is missing instead of what was expected.
    ours =
      ~r/\A(expected |unknown option |no stub of the name |the process has no stub )|has a stub of its own/

    if message =~ ours, do: nil, else: "ArgumentError: #{message}"
  end

  test "the table has every public function" do
    called = for {module, function, _right} <- calls(), into: MapSet.new(), do: {module, function}

    missing =
      for module <- Application.spec(:image_zero_shot, :modules),
          {:docs_v1, _, _, _, moduledoc, _, docs} <- [Code.fetch_docs(module)],
          is_map(moduledoc),
          {{:function, name, _arity}, _, _, doc, _} <- docs,
          is_map(doc),
          not String.starts_with?("#{inspect(module)}", "Mix.Tasks."),
          {module, name} not in called,
          do: {module, name}

    assert missing == []
  end

  describe "a hand-made embedding" do
    setup do: %{dog: ZeroShot.embed(@dog, @model)}

    test "with a field of another type names the field, wherever it goes", %{dog: dog} do
      classifier = ZeroShot.classifier(@labels, @model)
      index = Index.new()
      :ok = Index.put(index, 1, dog)

      for {field, value} <- [model: 1, model: nil, model: <<255>>, commit: 1, kind: :sound],
          bad = Map.put(dog, field, value),
          call <- [
            fn -> Index.put(index, 2, bad) end,
            fn -> Index.nearest(index, bad) end,
            fn -> Index.nearest_many(index, [dog, bad]) end,
            fn -> ZeroShot.classify(bad, classifier) end,
            fn -> ZeroShot.classify(bad, @labels, @model) end,
            fn -> [bad] |> ZeroShot.classify_many(classifier) |> Enum.to_list() end,
            fn -> ZeroShot.embed(bad, @model) end,
            fn -> ZeroShot.similarity(dog, bad) end,
            fn -> ZeroShot.suggest(bad, [vocabulary: @labels] ++ @model) end,
            fn -> Classifier.calibrate(classifier, [{dog, "dog"}, {bad, "cat"}]) end,
            fn -> Embedding.similarity(bad, dog) end,
            fn -> Embedding.to_binary(bad) end
          ] do
        message = "expected the #{inspect(field)} of an embedding to be "
        assert_raise ArgumentError, ~r/\A#{message}/, call
      end
    end

    test "with another vector is shown as a struct" do
      for vector <- [nil, [1.0], 1],
          embedding = %Embedding{vector: vector, model: "m", commit: nil, kind: :picture},
          do: assert(inspect(embedding) =~ "%Image.ZeroShot.Embedding{")
    end
  end

  test "a classifier with fields that were changed by hand is named as such, and shown" do
    classifier = ZeroShot.classifier(@labels, @model)

    for {field, value} <- [
          labels: [1 | 2],
          labels: ["cat", "dog"],
          labels: {"cat"},
          texts: "",
          texts: nil,
          model: nil,
          model: %{name: "x"},
          truncated: [1 | 2],
          truncated: [7],
          probe: nil,
          template: "a photo of {label}",
          opts: %{},
          opts: [1 | 2],
          calibration: %{}
        ],
        bad = Map.put(classifier, field, value),
        call <- [
          fn -> ZeroShot.classify(@dog, bad) end,
          fn -> ZeroShot.explain(@dog, bad) end,
          fn -> ZeroShot.classify_many([@dog], bad) end,
          fn -> Classifier.info(bad) end,
          fn -> Classifier.to_binary(bad) end,
          fn -> Classifier.calibrate(bad, []) end
        ] do
      expected =
        ~r/\Aexpected a classifier as Image.ZeroShot.classifier\/2 returned it, got: [#%]/

      assert_raise ArgumentError, expected, call
    end
  end

  test "a list of queries for one search names nearest_many/3" do
    index = Index.new()
    dog = ZeroShot.embed(@dog, @model)
    :ok = Index.put(index, 1, dog)

    for query <- [[], [@dog], [dog], [1 | 2], {:text, ["a", "b"]}, {:text, []}] do
      assert_raise ArgumentError, ~r/expected one query, got a list: .*nearest_many\/3/, fn ->
        Index.nearest(index, query, @model)
      end
    end
  end
end
