defmodule Image.ZeroShot.Classifier.Calibration do
  @moduledoc false

  # From labelled pictures to the scale and the threshold of a classifier. The fit is the native
  # library's.

  alias Image.ZeroShot.{Classifier, Embedding, Error, Native}
  alias Image.ZeroShot.Call.{Options, PictureStream, Vectors}

  @bins 10

  # No fit comes near. Beyond, a product of two such numbers may be none.
  @most 1.0e12

  @doc """
  Fits a classifier to examples. `other` is the label of those that show none of its labels; `stream`
  are the options of the stream that embeds them.
  """
  @spec run(Classifier.t(), Enumerable.t(), term(), Options.t(), Options.t()) ::
          {:ok, Classifier.calibration()} | {:error, Error.t()}
  def run(classifier, examples, other, opts, stream) do
    with {:ok, {pictures, answers}} <- answers(classifier, examples, other),
         {:ok, rows} <- rows(classifier, pictures, opts, stream),
         {:ok, found} <- fit(classifier, rows, answers, opts) do
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

  defp answers(classifier, examples, other) do
    if Enumerable.impl_for(examples) == nil or (is_list(examples) and List.improper?(examples)) do
      got = inspect(examples, limit: 5, printable_limit: 80)
      raise ArgumentError, "expected examples to be a list or another enumerable, got: #{got}"
    end

    labels = Tuple.to_list(classifier.labels)
    # Of a label given twice the first counts.
    places = labels |> Enum.with_index() |> Enum.reverse() |> Map.new()

    if is_map_key(places, other) do
      Error.error(
        :invalid_label,
        "the label #{inspect(other)} is in the classifier, and :other gives it to examples that show " <>
          "none of its labels; give another term as :other"
      )
    else
      places = Map.put(places, other, length(labels))

      with {:ok, pairs} <- examples |> Enum.with_index() |> Vectors.each(&answer(&1, places)),
           do: {:ok, Enum.unzip(pairs)}
    end
  end

  defp answer({{picture, label}, index}, places) do
    case places do
      %{^label => place} ->
        {:ok, {picture, place}}

      _ ->
        Error.error(
          :invalid_label,
          "the label of the example at index #{index} is not in the classifier: " <>
            inspect(label, limit: 5, printable_limit: 80)
        )
    end
  end

  defp answer({other, index}, _places) do
    got = inspect(other, limit: 5, printable_limit: 80)
    raise ArgumentError, "expected example #{index} to be {picture, label}, got: #{got}"
  end

  # Pictures pass through a stream, however many there are; a failure ends it.
  defp rows(classifier, pictures, opts, stream) do
    work = fn [picture] -> [Vectors.embed([{nil, picture}], opts)] end

    pictures
    |> PictureStream.stream(&PictureStream.alone/1, fn -> {:ok, work} end, opts, stream)
    |> Stream.with_index()
    |> Enum.reduce_while({:ok, []}, fn
      {{_picture, {:ok, [embedding]}}, index}, {:ok, rows} ->
        case Embedding.check_model(embedding, classifier.model) do
          :ok -> {:cont, {:ok, [rows, Embedding.row(embedding)]}}
          {:error, error} -> {:halt, failed(error, index)}
        end

      {{_picture, {:error, error}}, index}, _rows ->
        {:halt, failed(error, index)}
    end)
  end

  defp failed(error, index), do: {:error, Error.prefix(error, "example at index #{index}")}

  defp fit(classifier, rows, answers, opts) do
    %{dim: dim, logit_scale: scale} = classifier.model
    scale = classifier.opts[:logit_scale] || opts[:logit_scale] || scale

    case Native.calibrate(IO.iodata_to_binary(rows), dim, classifier.texts, answers, scale / 1) do
      {:ok, found} -> {:ok, found}
      {:error, {_reason, message}} -> Error.error(:invalid_label, message)
    end
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
