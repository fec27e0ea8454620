defmodule Image.ZeroShot.Call.Pipeline do
  @moduledoc false

  # Runs a call from a picture and labels to results: check the arguments, check out a lease, make
  # pixels, run the model, score.

  require Logger

  alias Image.ZeroShot.{Classifier, Error, Native, Picture}
  alias Image.ZeroShot.Call.{Labels, Options}
  alias Image.ZeroShot.Serving.{Client, Lease}

  # Prompts of one run. A larger label set is compiled in parts, so that its rows are not all in memory
  # before they are averaged.
  @part 512

  @type results :: [%{label: term(), score: float()}]

  @doc """
  Ranks labels or a classifier for a picture, best first.
  """
  @spec rank(term(), term(), Options.t()) :: {:ok, results()} | {:error, Error.t()}
  def rank(picture, labels, opts) do
    # Checks that work without a model come first: a misspelt file name must not wait for a download.
    with {:ok, labels} <- labels(labels, opts),
         {:ok, background} <- Labels.background(opts),
         {:ok, picture} <- Picture.open(picture, opts),
         {:ok, lease} <- checkout([picture], labels, background, opts) do
      try do
        with {:ok, labels} <- compiled(labels, lease, opts),
             {:ok, pixels} <- Picture.pixels(picture, lease, opts),
             {:ok, embeddings} <- run(lease, [pixels], prompts(labels) ++ background.prompts),
             {:ok, classifier, texts} <- classifier(labels, embeddings, lease, opts),
             {:ok, rows} <- Classifier.ensemble(background.counts, texts),
             do: Classifier.rank(classifier, embeddings.images, {background.term, rows}, opts)
      after
        Client.checkin(lease)
      end
    end
  end

  @doc """
  Compiles labels for the model that the options name. `given` are the caller's own options.
  """
  @spec compile(term(), Options.t(), keyword()) :: {:ok, Classifier.t()} | {:error, Error.t()}
  def compile(labels, opts, given) do
    with {:ok, labels} <- Labels.new(labels, opts),
         {:ok, _background} <- Labels.background(opts),
         {:ok, _info} <- Client.load(opts),
         {:ok, lease} <- Client.checkout(opts, needs([], Enum.take(labels.prompts, @part), 1)) do
      try do
        # Each part has the time of a call.
        compile_parts(labels, opts, given, fn -> Lease.renew(lease, opts.timeout) end)
      after
        Client.checkin(lease)
      end
    end
  end

  @doc """
  The cosine of two pictures.
  """
  @spec cosine(term(), term(), Options.t()) :: {:ok, float()} | {:error, Error.t()}
  def cosine(picture, other, opts) do
    with {:ok, first} <- picture |> Picture.open(opts) |> named("first picture"),
         {:ok, second} <- other |> Picture.open(opts) |> named("second picture"),
         {:ok, lease} <- Client.checkout(opts, needs([first, second], [], 1)) do
      try do
        with {:ok, pixels1} <- first |> Picture.pixels(lease, opts) |> named("first picture"),
             {:ok, pixels2} <- second |> Picture.pixels(lease, opts) |> named("second picture"),
             {:ok, %{images: images}} <- Client.run(lease, [pixels1, pixels2], []) do
          {embedding1, embedding2} = :erlang.split_binary(images, div(byte_size(images), 2))
          Error.from_native(Native.cosine(embedding1, embedding2))
        end
      after
        Client.checkin(lease)
      end
    end
  end

  defp labels(%Classifier{} = classifier, _opts), do: {:ok, classifier}
  defp labels(labels, opts), do: Labels.new(labels, opts)

  defp checkout(pictures, %Classifier{}, background, opts),
    do: Client.checkout(opts, needs(pictures, background.prompts, 1))

  # A long list is admitted by what it costs the model, which has to be loaded to say so.
  defp checkout(pictures, labels, background, opts) do
    needs = needs(pictures, labels.prompts ++ background.prompts, parts(labels))

    with {:ok, _info} <- if(needs.parts > 1, do: Client.load(opts), else: {:ok, nil}),
         do: Client.checkout(opts, needs)
  end

  defp needs(pictures, prompts, parts) do
    count = length(pictures)
    %{pictures: count, decoded_here: count, prompts: prompts, parts: parts}
  end

  defp parts(labels), do: div(length(labels.prompts) + @part - 1, @part)

  # Few labels go through the model together with the picture; many before it.
  defp compiled(%Classifier{} = classifier, lease, _opts) do
    with :ok <- Classifier.check_model(classifier, lease.info), do: {:ok, classifier}
  end

  defp compiled(labels, lease, opts) do
    if parts(labels) > 1,
      do: compile_parts(labels, opts, [], fn -> lease end),
      else: {:ok, labels}
  end

  defp prompts(%Classifier{}), do: []
  defp prompts(labels), do: labels.prompts

  # The classifier, and the rows of the prompts that are not its own.
  defp classifier(%Classifier{} = classifier, embeddings, _lease, _opts),
    do: {:ok, classifier, embeddings.texts}

  defp classifier(labels, embeddings, lease, opts) do
    count = length(labels.prompts)
    {own, texts} = :erlang.split_binary(embeddings.texts, count * lease.info.dim * 4)
    truncated = Enum.filter(embeddings.truncated, &(&1 < count))
    own = %{embeddings | texts: own, truncated: truncated}

    with {:ok, classifier} <- Classifier.new(labels, lease.info, own, opts, []),
         do: {:ok, classifier, texts}
  end

  defp compile_parts(labels, opts, given, lease) do
    labels
    |> Labels.parts(@part)
    |> Enum.reduce_while({:ok, [], []}, fn part, {:ok, done, cut} ->
      case compile_part(part, lease.(), opts, given) do
        {:ok, classifier, more} -> {:cont, {:ok, [classifier | done], [more | cut]}}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
    |> case do
      {:ok, parts, cut} ->
        :ok = cut |> Enum.reverse() |> Enum.concat() |> warn(labels.prompts, lease.())
        {:ok, parts |> Enum.reverse() |> Classifier.join()}

      {:error, error} ->
        {:error, error}
    end
  end

  defp compile_part(part, lease, opts, given) do
    with {:ok, embeddings} <- Client.run(lease, [], part.prompts),
         {:ok, classifier} <- Classifier.new(part, lease.info, embeddings, opts, given),
         do: {:ok, classifier, cut(part.prompts, embeddings)}
  end

  defp run(lease, pixels, prompts) do
    with {:ok, embeddings} <- Client.run(lease, pixels, prompts) do
      :ok = prompts |> cut(embeddings) |> warn(prompts, lease)
      {:ok, embeddings}
    end
  end

  # The prompts that were cut, if that is news.
  defp cut(_prompts, %{news: false}), do: []

  defp cut(prompts, %{truncated: indices}) do
    indices = MapSet.new(indices)
    for {prompt, i} <- Enum.with_index(prompts), i in indices, do: prompt
  end

  # Once for a label set, however many parts it is compiled in.
  defp warn([], _prompts, _lease), do: :ok

  defp warn(cut, prompts, lease) do
    names = cut |> Enum.take(5) |> Enum.map_join(", ", &brief/1)
    more = if length(cut) > 5, do: ", …", else: ""

    Logger.warning(
      "#{length(cut)} of #{length(prompts)} prompts are longer than the " <>
        "#{lease.info.context_length} tokens that the model reads, and were cut: #{names}#{more}"
    )
  end

  defp brief(text), do: inspect(text, binaries: :as_strings, printable_limit: 40)

  defp named({:error, error}, name), do: {:error, Error.prefix(error, name)}
  defp named(ok, _name), do: ok
end
