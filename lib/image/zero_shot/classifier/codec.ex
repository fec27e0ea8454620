defmodule Image.ZeroShot.Classifier.Codec do
  @moduledoc false

  # A compiled label set as a binary: a line that says what it is, a hash, and a term of Erlang's
  # external format that holds nothing but plain data.

  alias Image.ZeroShot.{Error, Native}
  alias Image.ZeroShot.Classifier.{Calibration, ExternalTerm}
  alias Image.ZeroShot.Native.Floats

  # The number is the version of the layout.
  @magic "image_zero_shot classifier 1\n"

  # In memory a classifier takes little more than as a binary: nearly all of it is the embeddings.
  # Labels that are written in few bytes and read as many times as much, such as a long list of small
  # numbers, have this much room.
  @room 1024 * 1024

  @spec encode!(map()) :: binary()
  def encode!(kept) do
    data = kept |> without_nil_bias() |> swapped() |> :erlang.term_to_binary()

    case check_memory(data) do
      :ok ->
        @magic <> :erlang.md5(data) <> data

      :error ->
        raise ArgumentError,
              "expected labels of plain data, got processes, references or functions"

      {:too_large, memory} ->
        raise ArgumentError,
              "expected labels that take about as much memory as they take bytes, got a " <>
                "classifier of #{memory} bytes in memory and #{byte_size(data)} in the binary; " <>
                "use strings or numbers as labels instead of long lists"
    end
  end

  @spec decode(term()) :: {:ok, map()} | {:error, Error.t()}
  def decode(@magic <> <<hash::binary-size(16), data::binary>>) do
    with ^hash <- :erlang.md5(data),
         :ok <- check_memory(data),
         {:ok, kept} <- safe_term(data),
         true <- shape?(kept) do
      {:ok, kept |> swapped() |> with_bias()}
    else
      {:too_large, memory} -> too_large(memory, byte_size(data))
      _ -> damaged()
    end
  end

  def decode(_other), do: damaged()

  defp damaged do
    Error.error(
      :invalid_classifier,
      "expected what Image.ZeroShot.Classifier.to_binary/1 of this version wrote, whole; compile " <>
        "the labels anew with Image.ZeroShot.classifier/2"
    )
  end

  defp too_large(memory, size) do
    Error.error(
      :invalid_classifier,
      "the binary of #{size} bytes would take #{memory} bytes of memory, which nothing that " <>
        "Image.ZeroShot.Classifier.to_binary/1 wrote does; compile the labels anew with " <>
        "Image.ZeroShot.classifier/2"
    )
  end

  # Before anything is allocated. A term that is compressed is refused too, as its tag is not that
  # of plain data.
  defp check_memory(data) do
    case ExternalTerm.memory(data) do
      {:ok, memory} when memory > 2 * byte_size(data) + @room -> {:too_large, memory}
      {:ok, _memory} -> :ok
      :error -> :error
    end
  end

  # It holds nothing but plain data, and no atom that is not known.
  defp safe_term(data) do
    {:ok, :erlang.binary_to_term(data, [:safe])}
  rescue
    ArgumentError -> :error
  end

  # All of it is checked before anything is asked of it: a map can claim to be any struct, whose
  # module `kept[:labels]` would call.
  defp shape?(%{labels: labels, texts: texts, probe: {_prompt, row}} = kept) do
    fields?(kept) and unit?(texts, tuple_size(labels)) and unit?(row, 1)
  end

  defp shape?(_other), do: false

  @doc """
  Whether a classifier in memory has the fields of one. The floats are not looked at.
  """
  @spec sound?(map()) :: boolean()
  def sound?(%{model: %{}} = kept), do: kept |> without_nil_bias() |> fields?()
  def sound?(_other), do: false

  defp fields?(
         %{
           labels: labels,
           texts: texts,
           model: %{name: name, commit: commit, dim: dim, logit_scale: scale} = model,
           truncated: truncated,
           probe: {prompt, row},
           template: [_ | _] = template,
           calibration: calibration
         } = kept
       )
       when map_size(kept) == 7 and tuple_size(labels) > 0 and
              is_binary(texts) and is_binary(row) and is_integer(dim) and dim > 0 and
              is_float(scale) and scale > 0.0 and
              byte_size(texts) == tuple_size(labels) * dim * 4 and byte_size(row) == dim * 4 and
              is_list(truncated) do
    text?(name) and (commit == nil or text?(commit)) and text?(prompt) and
      not List.improper?(template) and Enum.all?(template, &(&1 == nil or text?(&1))) and
      bias?(Map.drop(model, [:name, :commit, :dim, :logit_scale])) and
      indices?(truncated, tuple_size(labels)) and
      (calibration == nil or Calibration.valid?(calibration))
  end

  defp fields?(_other), do: false

  # The binary leaves out the key `:logit_bias` for a model that has none.
  defp bias?(%{logit_bias: bias} = rest), do: map_size(rest) == 1 and is_float(bias)
  defp bias?(rest), do: rest == %{}

  defp without_nil_bias(%{model: %{logit_bias: nil} = model} = kept),
    do: %{kept | model: Map.delete(model, :logit_bias)}

  defp without_nil_bias(kept), do: kept

  defp with_bias(kept), do: %{kept | model: Map.put_new(kept.model, :logit_bias, nil)}

  defp text?(text), do: is_binary(text) and String.valid?(text)

  defp indices?(list, count),
    do: not List.improper?(list) and Enum.all?(list, &(is_integer(&1) and &1 in 0..(count - 1)))

  # Rows that can be normalised hold numbers only. A NaN has no place in an order, and no score.
  defp unit?(rows, count),
    do: match?({:ok, _}, rows |> Floats.swap() |> Native.ensemble(List.duplicate(1, count)))

  # Floats are little-endian in the binary, whatever the machine has.
  defp swapped(%{texts: texts, probe: {prompt, row}} = kept),
    do: %{kept | texts: Floats.swap(texts), probe: {prompt, Floats.swap(row)}}
end
