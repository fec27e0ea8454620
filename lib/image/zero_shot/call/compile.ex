defmodule Image.ZeroShot.Call.Compile do
  @moduledoc false

  # From labels to a classifier, in parts, so that the rows of all prompts are not in memory before
  # they are averaged.

  require Logger

  alias Image.ZeroShot.{Classifier, Error}
  alias Image.ZeroShot.Classifier.Scores
  alias Image.ZeroShot.Call.{Deadline, Labels, Options, Vectors}
  alias Image.ZeroShot.Picture.Reader
  alias Image.ZeroShot.Serving.{Client, Identity, Lease}

  # Prompts of one run.
  @part 512

  # What identifies the model of a classifier that has pictures only.
  @probe "a photo"

  @doc """
  Compiles labels for the model that the options name, until a deadline. `given` are the caller's own options.
  """
  @spec run(Labels.t(), Options.t(), keyword(), Deadline.t()) ::
          {:ok, Classifier.t()} | {:error, Error.t()}
  def run(labels, opts, given, deadline \\ :infinity) do
    first = Enum.take(labels.prompts, @part)

    with :ok <- check(labels.pictures, opts),
         {:ok, info} <- Client.load(opts),
         :ok <- Scores.check(opts, Identity.of(info)),
         shown = Enum.take(labels.pictures, @part),
         {:ok, lease} <- Client.checkout(opts, Vectors.needs(shown, first, 1)) do
      try do
        # Each part has the time of a call, and so has each batch of pictures. No time is less than `:infinity`.
        time = fn -> min(opts.timeout, Deadline.remaining(deadline)) end
        parts(labels, opts, given, fn -> Lease.renew(lease, time.()) end)
      after
        Client.checkin(lease)
      end
    end
  end

  @doc """
  How many parts labels are compiled in.
  """
  @spec count(Labels.t()) :: non_neg_integer()
  def count(labels), do: div(length(labels.prompts) + @part - 1, @part)

  @doc """
  Compiles labels part by part. `lease` is called before each, and before each batch of pictures.
  """
  @spec parts(Labels.t(), Options.t(), keyword(), (... -> Lease.t())) ::
          {:ok, Classifier.t()} | {:error, Error.t()}
  def parts(labels, opts, given, lease) do
    compiled =
      labels
      |> Labels.parts(@part)
      |> Vectors.each(&part(&1, lease, opts, given))

    with {:ok, parts} <- compiled do
      {classifiers, cut} = Enum.unzip(parts)
      :ok = cut |> Enum.concat() |> Vectors.warn(labels.prompts, lease.())
      :ok = warn_of_mixture(labels)
      {:ok, Classifier.join(classifiers)}
    end
  end

  defp part(part, lease, opts, given) do
    prompts = if part.prompts == [], do: [@probe], else: part.prompts
    %{info: info} = now = lease.()

    with {:ok, embeddings} <- Client.run(now, [], prompts),
         {:ok, pictures} <- pictures(part.pictures, info.max_batch, lease, opts),
         shown = %{rows: pictures, counts: part.shown},
         {:ok, classifier} <- Classifier.new(part, info, embeddings, shown, opts, given),
         do: {:ok, {classifier, Vectors.cut(part.prompts, embeddings)}}
  end

  # Only the files of one batch are in memory.
  defp pictures(pictures, batch, lease, opts) do
    batches = Enum.chunk_every(pictures, batch)

    with {:ok, rows} <- Vectors.each(batches, &batch(&1, lease.(), opts)),
         do: {:ok, IO.iodata_to_binary(rows)}
  end

  defp batch(pictures, lease, opts) do
    with {:ok, pictures} <- Vectors.open(pictures, opts),
         do: Vectors.rows(lease, pictures, opts)
  end

  # A misspelt name must not wait for a download, nor for the pictures before it.
  defp check(pictures, opts) do
    paths = for {name, {:path, path}} <- pictures, is_binary(path), do: {name, path}

    with {:ok, _checked} <-
           Vectors.each(paths, fn {_name, path} ->
             Reader.check(path, opts.max_bytes, opts.timeout)
           end),
         do: :ok
  end

  # A picture is nearer to any picture than to its own name.
  defp warn_of_mixture(%{pictures: []}), do: :ok

  defp warn_of_mixture(labels) do
    named = for {term, 0} <- Enum.zip(labels.terms, labels.shown), do: inspect(term)

    if named != [] do
      Logger.warning(
        "#{length(named)} of #{length(labels.terms)} labels have no pictures and will hardly " <>
          "win against those that have, because pictures resemble each other more than words: " <>
          Enum.join(Enum.take(named, 5), ", ")
      )
    end

    :ok
  end
end
