defmodule Image.ZeroShot.Classifier.Calibration do
  @moduledoc false

  # From labelled pictures to the scale and the threshold of a classifier. The fit is the native
  # library's.

  alias Image.ZeroShot.{Classifier, Embedding, Error, Native}
  alias Image.ZeroShot.Call.{Argument, Deadline, Options, PictureStream, Vectors}
  alias Image.ZeroShot.Serving.Client

  require Logger

  @bins 10

  # With fewer examples of a kind a fit says little.
  @few 5

  # The largest scale or threshold that a binary may claim. Fits stay far below it, and the product of two such
  # numbers is still finite.
  @most 1.0e12

  @doc """
  Fits a classifier to examples. `own` are the options of only the calibration; `stream` are those of
  the stream that embeds the examples.
  """
  @spec run(Classifier.t(), Enumerable.t(), Options.t(), Options.t(), Options.t()) ::
          {:ok, Classifier.calibration()} | {:error, Error.t()}
  def run(classifier, examples, %{other: other, max_time: max_time}, opts, stream) do
    opts = %{opts | timeout: min(opts.timeout, max_time)}

    with {:ok, examples} <- checked(classifier, examples, other),
         {:ok, _info} <- Client.load(opts),
         deadline = Deadline.new(max_time),
         {:ok, {rows, answers}} <- rows(classifier, examples, deadline, opts, stream),
         {:ok, found} <- fit(classifier, rows, answers, deadline, opts) do
      :ok = warn_of_few(answers, tuple_size(classifier.labels))

      {:ok,
       %{
         logit_scale: found.logit_scale,
         temperature: 1 / found.logit_scale,
         threshold: found.threshold,
         other: other,
         examples: length(answers),
         before: reliability(found.before),
         after: reliability(found.after)
       }}
    end
  end

  # Each example as `{:ok, {picture, place of its label}}` or an error. A list is checked before any
  # picture is embedded. A lazy enumerable may be larger than memory, so it is checked on the way.
  defp checked(classifier, examples, other) do
    labels = Tuple.to_list(classifier.labels)
    # If a label was given twice, the first one counts.
    places = labels |> Enum.with_index() |> Enum.reverse() |> Map.new()

    if is_map_key(places, other) do
      Error.error(
        :invalid_label,
        "the label #{inspect(other)} is in the classifier, and :other gives it to examples that show " <>
          "none of its labels; give another term as :other"
      )
    else
      places = Map.put(places, other, length(labels))
      {:ok, most} = Native.most_examples(length(labels))

      examples
      |> Argument.enumerable!("examples")
      |> Stream.with_index()
      |> Stream.map(&answer(&1, places, most))
      |> early(examples)
    end
  end

  defp early(answers, examples) when is_list(examples) do
    answers = Enum.to_list(answers)
    Enum.find(answers, {:ok, answers}, &match?({:error, _error}, &1))
  end

  defp early(answers, _lazy), do: {:ok, answers}

  defp answer({_example, most}, places, most) do
    Error.error(
      :invalid_label,
      "more than #{most} examples, which is the limit with #{map_size(places) - 1} labels; give fewer"
    )
  end

  defp answer({{picture, label}, index}, places, _most) do
    case places do
      %{^label => place} ->
        {:ok, {picture, place}}

      _ ->
        Error.error(
          :invalid_label,
          "the label of the example at index #{index} is not in the classifier: " <>
            Argument.shown(label)
        )
    end
  end

  defp answer({other, index}, _places, _most),
    do: Argument.wrong!("example #{index} to be {picture, label}", other)

  # Pictures pass through a stream, however many there are; a failure ends it.
  defp rows(classifier, examples, deadline, opts, stream) do
    examples
    |> PictureStream.stream(
      &PictureStream.alone/1,
      fn -> {:ok, &embed(&1, opts)} end,
      opts,
      stream
    )
    |> Stream.with_index()
    |> Enum.reduce_while({:ok, {[], []}}, fn {{example, result}, index}, {:ok, {rows, answers}} ->
      with {:ok, {_picture, answer}} <- example,
           {:ok, row} <- row(result, index, classifier),
           :ok <- in_time(deadline, index + 1) do
        {:cont, {:ok, {[rows, row], [answer | answers]}}}
      else
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
  end

  defp embed([{:ok, {picture, _answer}}], opts), do: [Vectors.embed([{nil, picture}], opts)]
  defp embed([{:error, error}], _opts), do: [{:error, error}]

  defp row(result, index, classifier) do
    with {:ok, [embedding]} <- result,
         :ok <- Embedding.check_model(embedding, classifier.model) do
      {:ok, Embedding.row(embedding)}
    else
      {:error, error} -> {:error, Error.prefix(error, "example at index #{index}")}
    end
  end

  defp in_time(deadline, done) do
    if Deadline.remaining(deadline) == 0,
      do:
        Error.error(
          :timeout,
          "the time for the calibration was over after #{done} embedded examples; raise :max_time, or " <>
            "give fewer examples"
        ),
      else: :ok
  end

  defp fit(classifier, rows, answers, deadline, opts) do
    %{dim: dim, logit_scale: scale} = classifier.model
    scale = classifier.opts[:logit_scale] || opts[:logit_scale] || scale
    answers = Enum.reverse(answers)
    left = with :infinity <- Deadline.remaining(deadline), do: nil

    case Native.calibrate(
           IO.iodata_to_binary(rows),
           dim,
           classifier.texts,
           answers,
           scale / 1,
           left
         ) do
      {:ok, found} -> {:ok, found}
      {:error, {:timeout, message}} -> Error.error(:timeout, message <> ", or raise :max_time")
      {:error, {_reason, message}} -> Error.error(:invalid_label, message)
    end
  end

  defp warn_of_few(answers, labels) do
    {none, some} = Enum.split_with(answers, &(&1 == labels))
    {some, none} = {length(some), length(none)}

    if some < @few or none in 1..(@few - 1)//1 do
      Logger.warning(
        "the classifier was calibrated with few examples (of its labels: #{some}, of none of these: #{none}); " <>
          "with fewer than #{@few} of a kind the fit says little: give a hundred or more"
      )
    end

    :ok
  end

  defp reliability(%{accuracy: accuracy, error: error, bins: bins}) do
    bins =
      for {{count, confidence, right}, i} when count > 0 <- Enum.with_index(bins) do
        %{
          from: i / @bins,
          to: (i + 1) / @bins,
          count: count,
          confidence: confidence,
          accuracy: right
        }
      end

    %{accuracy: accuracy, ece: error, bins: bins}
  end

  @doc """
  Whether a term from outside is a calibration.
  """
  @spec valid?(term()) :: boolean()
  def valid?(
        %{
          logit_scale: scale,
          temperature: temperature,
          threshold: threshold,
          other: _,
          examples: examples,
          before: before,
          after: later
        } = calibration
      ) do
    map_size(calibration) == 7 and is_float(scale) and scale > 0.0 and scale <= @most and
      is_float(temperature) and is_integer(examples) and
      (threshold == nil or (is_float(threshold) and abs(threshold) <= @most)) and
      Enum.all?([before, later], &reliability?/1)
  end

  def valid?(_other), do: false

  defp reliability?(%{accuracy: accuracy, ece: error, bins: bins} = all) do
    map_size(all) == 3 and is_float(accuracy) and is_float(error) and is_list(bins) and
      not List.improper?(bins) and Enum.all?(bins, &bin?/1)
  end

  defp reliability?(_other), do: false

  defp bin?(%{from: from, to: to, count: count, confidence: confidence, accuracy: accuracy} = bin) do
    map_size(bin) == 5 and is_integer(count) and
      Enum.all?([from, to, confidence, accuracy], &is_float/1)
  end

  defp bin?(_other), do: false
end
