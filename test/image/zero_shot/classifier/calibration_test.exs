defmodule Image.ZeroShot.CalibrationTest do
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Image.ZeroShot
  alias Image.ZeroShot.{Classifier, Embedding, Error, Native}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Classifier.Calibration
  alias Image.ZeroShot.Test.JSON

  @moduletag :capture_log

  @opts [repo: :embedded, device: :cpu]
  @folder "test/fixtures/emoji"

  # 200 pictures that the model was not trained on, of which a third show none of the labels.
  setup_all do
    entries = JSON.read!(Path.join(@folder, "labels.json"))
    paths = for %{"file" => file} <- entries, do: {:path, Path.join(@folder, file)}

    embeddings = for {_path, {:ok, one}} <- ZeroShot.embed_many(paths, @opts), do: one

    labels = for %{"label" => label} <- entries, do: label
    known = Enum.take(Enum.uniq(labels), 130)

    examples =
      for {embedding, label} <- Enum.zip(embeddings, labels),
          do: {embedding, if(label in known, do: label)}

    %{classifier: ZeroShot.classifier(known, @opts), examples: examples}
  end

  defp calibrated(context, more \\ []) do
    {:ok, calibrated} = Classifier.calibrate(context.classifier, context.examples, more)
    {calibrated, Classifier.info(calibrated).calibration}
  end

  test "logs a warning for fewer than five examples of a kind", context do
    {none, some} = Enum.split_with(context.examples, fn {_picture, label} -> label == nil end)

    for {count, others, told} <- [
          {1, 0, "of its labels: 1, of none of these: 0"},
          {4, 9, "of its labels: 4, of none of these: 9"},
          {9, 4, "of its labels: 9, of none of these: 4"}
        ] do
      examples = Enum.take(some, count) ++ Enum.take(none, others)

      log =
        capture_log(fn ->
          assert {:ok, _} = Classifier.calibrate(context.classifier, examples)
        end)

      assert log =~ "calibrated with few examples (#{told}); with fewer than 5 of a kind"
    end

    for others <- [0, 5] do
      examples = Enum.take(some, 5) ++ Enum.take(none, others)

      assert capture_log(fn -> {:ok, _} = Classifier.calibrate(context.classifier, examples) end) ==
               ""
    end
  end

  test "lowers the calibration error, and says so in a table", context do
    assert Classifier.info(context.classifier).calibration == nil
    {_, calibration} = calibrated(context)
    assert calibration.examples == 200
    assert calibration.after.ece < calibration.before.ece / 2
    assert calibration.after.accuracy > calibration.before.accuracy
    assert_in_delta calibration.temperature * calibration.logit_scale, 1.0, 1.0e-9

    for table <- [calibration.before, calibration.after] do
      assert table.bins |> Enum.map(& &1.count) |> Enum.sum() == 200

      for bin <- table.bins do
        assert bin.confidence >= bin.from - 1.0e-9 and bin.confidence <= bin.to + 1.0e-9
        assert bin.accuracy >= 0.0 and bin.accuracy <= 1.0
      end
    end
  end

  test "results have the threshold's answer, and scores that sum to 1", context do
    examples = for {embedding, label} <- context.examples, do: {embedding, label || :none}
    {calibrated, calibration} = calibrated(%{context | examples: examples}, other: :none)
    assert calibration.other == :none

    {right, scores} =
      for {embedding, label} <- context.examples, reduce: {0, []} do
        {right, scores} ->
          results = ZeroShot.classify(embedding, calibrated)
          assert_in_delta results |> Enum.map(& &1.score) |> Enum.sum(), 1.0, 1.0e-6
          best = hd(results)
          answer = if best.label == :none, do: nil, else: best.label
          {right + if(answer == label, do: 1, else: 0), [best.score | scores]}
      end

    # Those who were fitted to: no better than they should be.
    assert_in_delta right / 200, calibration.after.accuracy, 0.05
    assert_in_delta Enum.sum(scores) / 200, right / 200, 0.1
  end

  test "streams, cosines and pictures agree with the threshold", context do
    {calibrated, calibration} = calibrated(context)
    [{embedding, _} | _] = context.examples
    alone = ZeroShot.classify(embedding, calibrated, top_k: 3)

    assert [{_, {:ok, together}}] =
             Enum.to_list(ZeroShot.classify_many([embedding], calibrated, top_k: 3))

    assert Enum.map(alone, & &1.label) == Enum.map(together, & &1.label)
    cosines = ZeroShot.classify(embedding, calibrated, scores: :cosine)
    assert Enum.find(cosines, &(&1.label == nil)).score == calibration.threshold
  end

  test "is kept in a binary", context do
    {calibrated, calibration} = calibrated(context)
    assert {:ok, read} = calibrated |> Classifier.to_binary() |> Classifier.from_binary(@opts)
    assert Classifier.info(read).calibration == calibration
    [{embedding, _} | _] = context.examples
    assert ZeroShot.classify(embedding, read) == ZeroShot.classify(embedding, calibrated)
  end

  test "without examples of none of these there is no threshold", context do
    examples = Enum.filter(context.examples, &elem(&1, 1))
    assert {:ok, calibrated} = Classifier.calibrate(context.classifier, examples)
    assert Classifier.info(calibrated).calibration.threshold == nil
    [{embedding, _} | _] = examples
    results = ZeroShot.classify(embedding, calibrated)
    assert length(results) == 130
  end

  test "options that it does not hold for are refused", context do
    {calibrated, _} = calibrated(context)
    [{embedding, _} | _] = context.examples

    for option <- [other: "thing", logit_scale: 10, multi_label: true] do
      assert_raise ArgumentError, ~r/together with a calibrated classifier/, fn ->
        ZeroShot.classify(embedding, calibrated, [option])
      end
    end

    with_other = ZeroShot.classifier(["dog"], [other: "thing", logit_scale: 10] ++ @opts)
    dog = {{:path, "priv/samples/dog.jpg"}, "dog"}
    cat = {{:path, "priv/samples/cat.png"}, nil}
    assert {:ok, calibrated} = Classifier.calibrate(with_other, [dog, cat])
    assert ZeroShot.label(elem(dog, 0), calibrated) == "dog"
    assert ZeroShot.label(elem(cat, 0), calibrated) == nil
  end

  test "the configuration does not change calibrated scores", context do
    {calibrated, _} = calibrated(context)
    [{embedding, _} | _] = context.examples
    expected = ZeroShot.classify(embedding, calibrated)

    for {name, value} <- [other: "thing", logit_scale: 3, multi_label: true] do
      Application.put_env(:image_zero_shot, name, value)
      on_exit(fn -> Application.delete_env(:image_zero_shot, name) end)
      assert ZeroShot.classify(embedding, calibrated) == expected
      Application.delete_env(:image_zero_shot, name)
    end
  end

  test "a binary with numbers that no fit finds is refused", context do
    {calibrated, _found} = calibrated(context)
    magic = "image_zero_shot classifier 1\n"

    for forged <- [
          %{threshold: 1.0e308},
          %{threshold: -1.0e308},
          %{logit_scale: 1.0e308},
          %{logit_scale: -1.0}
        ] do
      <<^magic::binary-size(29), _hash::binary-size(16), data::binary>> =
        Classifier.to_binary(calibrated)

      kept = :erlang.binary_to_term(data)
      kept = %{kept | calibration: Map.merge(kept.calibration, forged)}
      data = :erlang.term_to_binary(kept)
      binary = magic <> :erlang.md5(data) <> data
      assert {:error, %Error{reason: :invalid_classifier}} = Classifier.from_binary(binary, @opts)
    end
  end

  test "examples that are no enumerable are a mistake in the program", context do
    for examples <- [nil, 5, [{hd(context.examples), "cat"} | :tail]] do
      assert_raise ArgumentError, ~r/^expected examples to be a list/, fn ->
        Classifier.calibrate(context.classifier, examples)
      end
    end
  end

  test "examples at fault are named", context do
    [{embedding, label} | _] = context.examples

    for {examples, message} <- [
          {[{embedding, "no such label"}],
           ~s(the label of the example at index 0 is not in the classifier: "no such label")},
          {[], "expected examples, got none"},
          {[{embedding, nil}], "all examples are of none of these; add some of each label"},
          {[{embedding, label}, {{:path, "no.jpg"}, label}],
           ~s(example at index 1: "no.jpg": no such file)},
          {[{%{embedding | commit: "other"}, label}], "example at index 0: the embedding is of"}
        ] do
      assert {:error, %Error{} = error} = Classifier.calibrate(context.classifier, examples)
      assert String.starts_with?(error.message, message)
    end

    assert {:error, %Error{reason: :invalid_label, message: message}} =
             Classifier.calibrate(context.classifier, context.examples, other: label)

    assert message =~ "give another term as :other"

    assert_raise ArgumentError, ~r/expected example 0 to be {picture, label}/, fn ->
      Classifier.calibrate(context.classifier, [embedding])
    end

    assert_raise ArgumentError, ~r/unknown option :template/, fn ->
      Classifier.calibrate(context.classifier, context.examples, template: nil)
    end
  end

  test "a stream of examples ends when the time is over", context do
    forever = Stream.cycle(context.examples)

    assert {:error, %Error{reason: :timeout, message: message}} =
             Classifier.calibrate(context.classifier, forever, max_time: 50)

    assert message =~
             ~r/over after \d+ embedded examples; raise :max_time, or give fewer examples/

    assert {:error, %Error{reason: :timeout}} =
             Classifier.calibrate(context.classifier, context.examples, max_time: 0)

    assert {:ok, _calibrated} =
             Classifier.calibrate(context.classifier, context.examples, max_time: :infinity)

    assert_raise ArgumentError, ~r/expected :max_time to be an integer/, fn ->
      Classifier.calibrate(context.classifier, context.examples, max_time: -1)
    end
  end

  test "a fit that takes too long is an error that names the option", context do
    vectors =
      for {embedding, _label} <- context.examples, into: <<>>, do: Embedding.row(embedding)

    answers = List.duplicate(0, length(context.examples))

    assert {:error, {:timeout, message}} =
             Native.calibrate(vectors, 128, context.classifier.texts, answers, 30.0, 0)

    assert message =~ "could not be fitted in time"
  end

  test "examples are read as they are needed", context do
    test = self()

    examples =
      Stream.map(context.examples, fn example ->
        send(test, :read)
        example
      end)

    [{embedding, _label} | _] = context.examples
    wrong = Stream.concat([{embedding, "no such label"}], examples)

    assert {:error, %Error{reason: :invalid_label, message: message}} =
             Classifier.calibrate(context.classifier, wrong, window: 4)

    assert message =~ "the label of the example at index 0"
    assert reads(0) < 10
    assert {:ok, calibrated} = Classifier.calibrate(context.classifier, examples)
    assert Classifier.info(calibrated).calibration.examples == 200
  end

  defp reads(count) do
    receive do
      :read -> reads(count + 1)
    after
      0 -> count
    end
  end

  test "more examples than memory is for are an error before any is embedded", context do
    {:ok, most} = Native.most_examples(2 ** 20)
    assert most == 64
    labels = List.to_tuple(Enum.map(1..(2 ** 20), &"label #{&1}"))
    # Without the 512 MiB of vectors that such a classifier has, and that nothing looks at here.
    classifier = %{context.classifier | labels: labels}
    {own, stream, opts} = Options.calibrate!([], classifier.opts)
    example = {{:path, "no.jpg"}, "label 1"}

    for examples <- [
          List.duplicate(example, 65),
          Stream.cycle([{elem(hd(context.examples), 0), "label 1"}])
        ] do
      assert {:error, %Error{reason: :invalid_label, message: message}} =
               Calibration.run(classifier, examples, own, opts, stream)

      assert message =~ "more than 64 examples, which is the limit with 1048576 labels"
    end
  end
end
