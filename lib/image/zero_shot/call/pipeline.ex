defmodule Image.ZeroShot.Call.Pipeline do
  @moduledoc false

  # Runs a call from a picture and labels to results: check the arguments, check out a lease, make
  # pixels, run the model, score.

  alias Image.ZeroShot.{Classifier, Embedding, Error, Picture}
  alias Image.ZeroShot.Classifier.Scores
  alias Image.ZeroShot.Call.{Compile, Labels, Options, PictureStream, Started, Vectors}
  alias Image.ZeroShot.Serving.{Client, Identity, Lease}

  # Embeddings of one matrix product, which needs some hundred to be fast.
  @group 512

  # Pictures of a list, whose files are all in memory.
  @most 512

  @type results :: [%{label: term(), score: float()}]

  @doc """
  Ranks labels or a classifier for a picture, best first.
  """
  @spec rank(term(), term(), Options.t()) :: {:ok, results()} | {:error, Error.t()}
  def rank(%Embedding{} = embedding, %Classifier{} = classifier, %{other: nil} = opts)
      when not opts.multi_label do
    # There is nothing left for a model to do.
    with :ok <- Started.check(),
         :ok <- Embedding.check_model(embedding, classifier.model),
         :ok <- Scores.check(opts, classifier.model),
         do: Scores.rank(classifier, Embedding.row(embedding), {nil, <<>>}, opts)
  end

  def rank(picture, labels, opts) do
    run = fn lease, pictures, prompts -> Vectors.run(lease, pictures, prompts, opts) end

    finish = fn classifier, done, background ->
      Scores.rank(classifier, done.images, background, opts)
    end

    compare(picture, labels, opts, run, finish)
  end

  @doc """
  Compares a picture with labels or a classifier: `run` gives the vectors of opened pictures and prompts, and
  `finish` makes results of the classifier, of what `run` gave, and of the background's term and rows.
  """
  @spec compare(
          term(),
          term(),
          Options.t(),
          (Lease.t(), [Vectors.opened()], [String.t()] ->
             {:ok, embeddings} | {:error, Error.t()}),
          (Classifier.t(), embeddings, {term(), binary()} -> {:ok, result} | {:error, Error.t()})
        ) :: {:ok, result} | {:error, Error.t()}
        when embeddings: map(), result: term()
  def compare(picture, labels, opts, run, finish) do
    # Checks that work without a model come first: a misspelt file name must not wait for a download.
    with {:ok, labels} <- labels(labels, opts),
         {:ok, background} <- Labels.background(terms(labels), opts),
         {:ok, pictures} <- Vectors.open([{nil, picture}], opts),
         {:ok, lease} <- checkout(pictures, labels, background, opts) do
      try do
        model = Identity.of(lease.info)
        background = Labels.background_for(background, model, opts)

        with :ok <- Scores.check(opts, model),
             {:ok, labels} <- compiled(labels, lease, opts),
             prompts = prompts(labels) ++ background.prompts,
             {:ok, embeddings} <- run.(lease, pictures, prompts),
             {:ok, classifier, texts} <- classifier(labels, embeddings, lease, opts),
             {:ok, rows} <- Scores.ensemble(background.counts, texts),
             do: finish.(classifier, embeddings, {background.term, rows})
      after
        Client.checkin(lease)
      end
    end
  end

  @doc """
  Ranks labels for each of many pictures, as a stream. `own` are the options of streams.
  """
  @spec rank_many(Enumerable.t(), term(), Options.t(), Options.t()) :: Enumerable.t()
  def rank_many(pictures, labels, opts, own) do
    start = fn ->
      with {:ok, classifier} <- compile_once(labels, opts),
           do: {:ok, &rank_group(&1, classifier, opts)}
    end

    PictureStream.stream(pictures, &groups/1, start, opts, own)
  end

  defp compile_once(labels, opts) do
    with {:ok, %Labels{}} <- labels(labels, opts), do: compile(labels, opts, [])
  end

  # Embeddings that follow one another are ranked together.
  defp groups(pictures) do
    Stream.transform(pictures, fn -> {[], 0} end, &group/2, &{whole(elem(&1, 0)), &1}, & &1)
  end

  defp group(%Embedding{} = embedding, {group, size}) when size < @group - 1,
    do: {[], {[embedding | group], size + 1}}

  defp group(%Embedding{} = embedding, {group, _size}), do: {whole([embedding | group]), {[], 0}}
  defp group(picture, {group, _size}), do: {whole(group) ++ [[picture]], {[], 0}}

  defp whole([]), do: []
  defp whole(group), do: [Enum.reverse(group)]

  defp rank_group([%Embedding{} | _] = embeddings, classifier, opts) do
    checked = for one <- embeddings, do: {one, Embedding.check_model(one, classifier.model)}
    rows = for {one, :ok} <- checked, into: <<>>, do: Embedding.row(one)

    case rank_rows(rows, classifier, opts) do
      {:ok, ranked} -> answers(checked, ranked)
      {:error, error} -> Enum.map(checked, fn _ -> {:error, error} end)
    end
  end

  defp rank_group([picture], classifier, opts), do: [rank(picture, classifier, opts)]

  defp rank_rows(rows, classifier, opts) do
    with :ok <- Scores.check(opts, classifier.model),
         {:ok, background} <- Labels.background(terms(classifier), opts),
         background = Labels.background_for(background, classifier.model, opts),
         {:ok, texts} <- background_rows(background, classifier, opts),
         do: Scores.rank_many(classifier, rows, {background.term, texts}, opts)
  end

  defp background_rows(%{prompts: []}, _classifier, _opts), do: {:ok, <<>>}

  defp background_rows(background, classifier, opts) do
    with {:ok, {info, %{texts: texts}}} <- Client.embed_prompts(background.prompts, opts),
         :ok <- Classifier.check_model(classifier, info),
         do: Scores.ensemble(background.counts, texts)
  end

  defp answers(checked, ranked) do
    {answers, []} =
      Enum.map_reduce(checked, ranked, fn
        {_embedding, :ok}, [results | ranked] -> {{:ok, results}, ranked}
        {_embedding, {:error, error}}, ranked -> {{:error, error}, ranked}
      end)

    answers
  end

  @doc """
  Compiles labels for the model that the options name. `given` are the caller's own options.
  """
  @spec compile(term(), Options.t(), keyword()) :: {:ok, Classifier.t()} | {:error, Error.t()}
  def compile(labels, opts, given) do
    with {:ok, labels} <- Labels.new(labels, opts),
         {:ok, _background} <- Labels.background(labels.terms, opts),
         do: Compile.run(labels, opts, given)
  end

  @doc """
  The cosine of two pictures.
  """
  @spec cosine(term(), term(), Options.t()) :: {:ok, float()} | {:error, Error.t()}
  def cosine(%Embedding{} = one, %Embedding{} = other, _opts), do: Embedding.cosine(one, other)

  def cosine(picture, other, opts) do
    pictures = [{"first picture", picture}, {"second picture", other}]

    with {:ok, [one, other]} <- pictures |> Vectors.embed(opts) |> or_text(pictures),
         do: Embedding.cosine(one, other)
  end

  # A text in the place of a picture is taken for the bytes of one.
  defp or_text({:error, %Error{reason: :invalid_image} = error}, pictures) do
    text? =
      Enum.any?(pictures, fn {name, picture} ->
        Picture.text?(picture) and String.starts_with?(error.message, name)
      end)

    way_out =
      "; to compare with a text, classify with scores: :cosine, or give what " <>
        "Image.ZeroShot.embed_text/2 returns"

    {:error, if(text?, do: %{error | message: error.message <> way_out}, else: error)}
  end

  defp or_text(result, _pictures), do: result

  @doc """
  Embeds a picture, or each of a list.
  """
  @spec embed(term(), Options.t()) ::
          {:ok, Embedding.t() | [Embedding.t()]} | {:error, Error.t()}
  def embed([], _opts), do: {:ok, []}

  def embed(pictures, opts) when is_list(pictures) do
    if List.improper?(pictures) or length(pictures) > @most do
      raise ArgumentError,
            "expected a list of at most #{@most} pictures; Image.ZeroShot.embed_many/2 takes any number"
    end

    pictures
    |> Enum.with_index(fn picture, i -> {"picture at index #{i}", picture} end)
    |> Vectors.embed(opts)
  end

  def embed(picture, opts), do: one(Vectors.embed([{nil, picture}], opts))

  @doc """
  Embeds a text, or each of a list, with the templates of the options.
  """
  @spec embed_text(term(), Options.t()) ::
          {:ok, Embedding.t() | [Embedding.t()]} | {:error, Error.t()}
  def embed_text([], _opts), do: {:ok, []}
  def embed_text(texts, opts) when is_list(texts), do: embed_texts(texts, opts)
  def embed_text(text, opts), do: one(embed_texts([text], opts))

  defp embed_texts(texts, opts) do
    with {:ok, labels} <- Labels.texts(texts, opts),
         {:ok, %{model: model} = classifier} <- Compile.run(labels, opts, []) do
      rows = Vectors.split(classifier.texts, model.dim)
      {:ok, Enum.map(rows, &Embedding.new(&1, model, :text))}
    end
  end

  @doc """
  Embeds many pictures, as a stream. `own` are the options of streams.
  """
  @spec embed_many(Enumerable.t(), Options.t(), Options.t()) :: Enumerable.t()
  def embed_many(pictures, opts, own) do
    work = fn [picture] -> [one(Vectors.embed([{nil, picture}], opts))] end
    PictureStream.stream(pictures, &PictureStream.alone/1, fn -> {:ok, work} end, opts, own)
  end

  defp one({:ok, [embedding]}), do: {:ok, embedding}
  defp one({:error, error}), do: {:error, error}

  defp labels(%Classifier{} = classifier, _opts), do: {:ok, classifier}

  defp labels(labels, opts) do
    with {:ok, %{pictures: [{name, _picture} | _]}} <- Labels.new(labels, opts) do
      Error.error(
        :invalid_label,
        "#{name}: labels with pictures have to be compiled first, with Image.ZeroShot.classifier/2"
      )
    end
  end

  defp terms(%Classifier{labels: terms}), do: terms
  defp terms(%Labels{terms: terms}), do: terms

  defp checkout(pictures, %Classifier{}, background, opts),
    do: Client.checkout(opts, Vectors.needs(pictures, background.prompts, 1))

  # A long list is admitted by what it costs the model, which has to be loaded to say so.
  defp checkout(pictures, labels, background, opts) do
    parts = Compile.count(labels)
    needs = Vectors.needs(pictures, labels.prompts ++ background.prompts, parts)

    with {:ok, _info} <- if(parts > 1, do: Client.load(opts), else: {:ok, nil}),
         do: Client.checkout(opts, needs)
  end

  # Few labels go through the model together with the picture; many before it.
  defp compiled(%Classifier{} = classifier, lease, _opts) do
    with :ok <- Classifier.check_model(classifier, lease.info), do: {:ok, classifier}
  end

  defp compiled(labels, lease, opts) do
    if Compile.count(labels) > 1,
      do: Compile.parts(labels, opts, [], fn -> lease end),
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

    with {:ok, classifier} <- Classifier.new(labels, lease.info, own, nil, opts, []),
         do: {:ok, classifier, texts}
  end
end
