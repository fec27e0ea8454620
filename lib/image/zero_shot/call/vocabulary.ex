defmodule Image.ZeroShot.Call.Vocabulary do
  @moduledoc false

  # The vocabulary of a suggestion, compiled for a model: kept in memory, or on disk, or else made by the
  # model.

  alias Image.ZeroShot.{Classifier, Error}
  alias Image.ZeroShot.Call.{Compile, Labels, Options, VocabularyCache}
  alias Image.ZeroShot.Classifier.Codec
  alias Image.ZeroShot.Serving.{Client, Identity}

  # Files of words are small. Whatever grows without end must not be read whole.
  @max_bytes 10_000_000

  @doc """
  The classifier of the vocabulary and for the model that the options name.
  """
  @spec classifier(Options.t()) :: {:ok, Classifier.t()} | {:error, Error.t()}
  def classifier(opts) do
    with {:ok, labels} <- labels(opts),
         {:ok, info} <- Client.load(opts) do
      key = key(info, labels)
      VocabularyCache.fetch(key, timeout(labels, opts), &find(key, labels, opts, &1))
    end
  end

  # That of a call for each part.
  defp timeout(_labels, %{timeout: :infinity}), do: :infinity
  defp timeout(labels, %{timeout: timeout}), do: Compile.count(labels) * timeout

  @doc """
  The labels of the vocabulary, checked. Needs no model.
  """
  @spec labels(Options.t()) :: {:ok, Labels.t()} | {:error, Error.t()}
  def labels(%{vocabulary: vocabulary} = opts) do
    with {:ok, labels} <- listed(vocabulary),
         {:ok, labels} <- labels |> Labels.new(opts) |> named(vocabulary),
         :ok <- in_words(labels),
         do: {:ok, labels}
  end

  defp named({:error, error}, path) when is_binary(path),
    do: {:error, Error.prefix(error, "vocabulary #{inspect(path)}")}

  defp named(labels, _list), do: labels

  defp listed(nil), do: listed(Application.app_dir(:image_zero_shot, "priv/vocabulary/nouns.txt"))

  defp listed([]),
    do: Error.error(:invalid_label, "expected :vocabulary to hold at least one label, got: []")

  defp listed(labels) when is_list(labels), do: {:ok, labels}

  defp listed(path) do
    # A device has no size, and no end.
    with {:ok, %{type: :regular, size: size}} when size <= @max_bytes <- File.stat(path),
         {:ok, text} <- File.read(path),
         [_ | _] = labels <- lines(text) do
      {:ok, labels}
    else
      [] ->
        unreadable(:invalid_label, path, "expected at least one label, got none")

      {:ok, %{type: :regular, size: size}} ->
        unreadable(:invalid_label, path, "it has #{size} bytes, the limit is #{@max_bytes}")

      {:ok, %{type: type}} ->
        unreadable(:io, path, "is not a regular file (#{type})")

      {:error, reason} ->
        %{reason: reason, message: message} = Error.file(path, reason)
        Error.error(reason, "vocabulary #{message}")
    end
  end

  defp lines(text) do
    text
    |> String.trim_leading("\uFEFF")
    |> String.split(["\r\n", "\n"])
    |> Enum.map(&String.trim/1)
    |> Enum.reject(&(&1 == ""))
  end

  # What a picture shows is not remembered by its name.
  defp in_words(%{pictures: []}), do: :ok

  defp in_words(%{pictures: [{name, _picture} | _]}) do
    Error.error(
      :invalid_label,
      "#{name}: a vocabulary has words only; compile labels with pictures with " <>
        "Image.ZeroShot.classifier/2 and rank them with Image.ZeroShot.classify/3"
    )
  end

  defp unreadable(reason, path, why),
    do: Error.error(reason, "vocabulary #{inspect(path)}: #{why}")

  # The prompts and their counts too, because another template makes other prompts of the same labels. And the
  # precision, so that rows of int8 do not serve a model in f32.
  defp key(info, labels) do
    content = {labels.terms, labels.prompts, labels.counts, info.precision}
    {Identity.of(info), :erlang.md5(:erlang.term_to_binary(content))}
  end

  defp find(key, labels, opts, deadline) do
    file = file(key, opts)

    with :error <- read(file, key, labels),
         {:ok, classifier} <- Compile.run(labels, opts, [], deadline) do
      write(file, classifier)
      {:ok, classifier}
    end
  end

  # What a call gives as a list is not for the disk: a list for each call would fill it.
  defp file(_key, %{vocabulary: labels}) when is_list(labels), do: nil
  defp file(_key, %{cache_dir: nil}), do: nil

  defp file(key, %{cache_dir: cache}) do
    name = :erlang.md5(:erlang.term_to_binary(key)) |> Base.encode16(case: :lower)
    Path.join([cache, "vocabularies", name <> ".classifier"])
  end

  defp read(nil, _key, _labels), do: :error

  defp read(file, {identity, _hash}, labels) do
    with {:ok, binary} <- File.read(file),
         {:ok, %{model: ^identity} = kept} <- Codec.decode(binary),
         true <- Tuple.to_list(kept.labels) == labels.terms do
      {:ok, struct!(Classifier, Map.put(kept, :opts, []))}
    else
      _missing_or_damaged -> :error
    end
  end

  # Whole or not at all. Where it cannot be written, the next VM computes it again.
  defp write(nil, _classifier), do: :ok

  defp write(file, classifier) do
    unfinished = "#{file}.#{System.pid()}-#{System.unique_integer([:positive])}"

    with :ok <- File.mkdir_p(Path.dirname(file)),
         :ok <- File.write(unfinished, Classifier.to_binary(classifier)),
         :ok <- File.rename(unfinished, file) do
      :ok
    else
      _not_writable ->
        _ = File.rm(unfinished)
        :ok
    end
  end
end
