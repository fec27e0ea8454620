defmodule Image.ZeroShot.Classifier do
  @moduledoc false

  # A label set ready for use: labels x template to prompts, prompts to the text matrix.

  require Logger

  alias Image.ZeroShot.{Error, Native, Options, Serving}

  @enforce_keys [:labels, :texts, :logit_scale]
  defstruct [:labels, :texts, :logit_scale]

  # `texts` holds a row of native-endian f32, a unit vector, for each label in its order.
  @type t :: %__MODULE__{labels: [String.t()], texts: binary(), logit_scale: float()}

  @doc """
  Checks labels without any model, so that a mistake in them is told before one is loaded.
  """
  @spec check(term(), Options.t()) :: {:ok, [String.t()]} | {:error, Error.t()}
  def check([_ | _] = labels, opts) do
    with :ok <- check_each(labels, 0, opts), do: {:ok, labels}
  end

  def check([], _opts), do: Error.error(:invalid_label, "expected at least one label, got: []")
  def check(other, _opts), do: no_list(other)

  @doc """
  The prompts of labels, in their order.
  """
  @spec prompts([String.t()], Options.t()) :: [String.t()]
  def prompts(labels, opts), do: Enum.map(labels, &Options.prompt(opts.template, &1))

  @doc """
  The classifier of `labels` from the embeddings of their prompts. Logs which prompts were cut.
  """
  @spec new([String.t()], Serving.info(), binary(), [non_neg_integer()]) :: t()
  def new(labels, info, texts, truncated) do
    warn_truncated(truncated, labels, info.context_length)
    %__MODULE__{labels: labels, texts: texts, logit_scale: info.logit_scale}
  end

  @doc """
  Each label with its score for one image embedding, in the order of the labels.
  """
  @spec score(t(), binary()) :: {:ok, [{String.t(), float()}]} | {:error, Error.t()}
  def score(%__MODULE__{} = classifier, image) do
    with {:ok, scores} <-
           image
           |> Native.score(classifier.texts, classifier.logit_scale)
           |> Error.from_native(),
         do: {:ok, Enum.zip(classifier.labels, scores)}
  end

  defp check_each([], _index, _opts), do: :ok

  defp check_each(_labels, index, %{max_labels: index}) do
    Error.error(:invalid_label, "there are more labels than :max_labels, which is #{index}")
  end

  defp check_each([label | labels], index, opts) do
    case check_one(label, opts.max_label_bytes) do
      :ok -> check_each(labels, index + 1, opts)
      {:error, fault} -> Error.error(:invalid_label, "the label at index #{index} #{fault}")
    end
  end

  defp check_each(tail, _index, _opts), do: no_list(tail)

  defp check_one(label, _max) when not is_binary(label),
    do: {:error, "is no string: #{inspect(label, limit: 5, printable_limit: 80)}"}

  defp check_one(label, max) when byte_size(label) > max do
    {:error, "has #{byte_size(label)} bytes, more than :max_label_bytes, which is #{max}"}
  end

  defp check_one(label, _max) do
    if String.valid?(label), do: :ok, else: {:error, "is no valid UTF-8: #{brief(label)}"}
  end

  defp no_list(term) do
    got = inspect(term, limit: 5, printable_limit: 80)
    Error.error(:invalid_label, "expected a list of labels, got: #{got}")
  end

  defp warn_truncated([], _labels, _context_length), do: :ok

  defp warn_truncated(indexes, labels, context_length) do
    names = indexes |> Enum.take(5) |> Enum.map_join(", ", &brief(Enum.at(labels, &1)))
    more = if length(indexes) > 5, do: ", …", else: ""

    Logger.warning(
      "#{length(indexes)} of #{length(labels)} prompts are longer than the #{context_length} " <>
        "tokens that the model reads, and were cut: #{names}#{more}"
    )
  end

  defp brief(text), do: inspect(text, limit: 10, printable_limit: 40)
end
