defmodule Image.ZeroShot.Pipeline do
  @moduledoc false

  # The way of a call: from a picture and labels to results.

  alias Image.ZeroShot.{Classifier, Error, Labels, Model, Native, Options, Picture}
  alias Image.ZeroShot.Serving.Client

  # Prompts of one call to a serving. A label set with more is compiled part by part, so that its
  # rows are not in memory before they are averaged.
  @part 512

  # What stands behind each label where labels are independent, in the place of the label.
  @anything "something"

  @type results :: [%{label: term(), score: float()}]

  @doc """
  Results for a picture, best first, for labels as they are given or a classifier.
  """
  @spec rank(term(), term(), Options.t()) :: {:ok, results()} | {:error, Error.t()}
  def rank(picture, %Classifier{} = classifier, opts) do
    with {:ok, background} <- background(opts),
         {:ok, picture} <- Picture.open(picture, opts),
         do: rank_compiled(picture, classifier, background, opts)
  end

  # What needs no model comes first: nobody waits for a model to learn of a misspelt file name.
  def rank(picture, labels, opts) do
    with {:ok, labels} <- Labels.new(labels, opts),
         {:ok, background} <- background(opts),
         {:ok, picture} <- Picture.open(picture, opts) do
      if length(labels.prompts) > @part do
        with {:ok, classifier} <- compile_parts(labels, opts, []),
             do: rank_compiled(picture, classifier, background, opts)
      else
        rank_together(picture, labels, background, opts)
      end
    end
  end

  defp rank_compiled(picture, classifier, {other, prompts}, opts) do
    with {:ok, {info, embeddings}} <- embed([{picture, nil}], prompts, opts),
         :ok <- Classifier.check_model(classifier, info) do
      Classifier.rank(classifier, embeddings.images, {other, embeddings.texts}, opts)
    end
  end

  defp rank_together(picture, labels, {other, prompts}, opts) do
    all = labels.prompts ++ prompts

    with {:ok, {info, embeddings}} <- embed([{picture, nil}], all, opts),
         {own, background} = split(embeddings, length(labels.prompts), info),
         {:ok, classifier} <- Classifier.new(labels, info, own, []),
         do: Classifier.rank(classifier, embeddings.images, {other, background}, opts)
  end

  # The rows of the labels, and of what stands behind them.
  defp split(embeddings, count, info) do
    size = count * info.dim * 4
    <<texts::binary-size(size), background::binary>> = embeddings.texts
    own = Enum.filter(embeddings.truncated, &(&1 < count))
    {%{embeddings | texts: texts, truncated: own}, background}
  end

  @doc """
  Compiles labels for the model that the options name; `given` are the options as they were given.
  """
  @spec compile(term(), Options.t(), keyword()) :: {:ok, Classifier.t()} | {:error, Error.t()}
  def compile(labels, opts, given) do
    with {:ok, labels} <- Labels.new(labels, opts),
         {:ok, _background} <- background(opts),
         do: compile_parts(labels, opts, given)
  end

  defp compile_parts(labels, opts, given) do
    labels
    |> Labels.parts(@part)
    |> Enum.reduce_while([], fn part, done ->
      case compile_part(part, opts, given, done) do
        {:ok, classifier} -> {:cont, [classifier | done]}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
    |> case do
      {:error, error} -> {:error, error}
      parts -> {:ok, parts |> Enum.reverse() |> Classifier.join()}
    end
  end

  # A model can be replaced while a long list is being compiled.
  defp compile_part(part, opts, given, done) do
    with {:ok, {info, embeddings}} <- embed([], part.prompts, opts),
         :ok <- if(done == [], do: :ok, else: Classifier.check_model(hd(done), info)),
         do: Classifier.new(part, info, embeddings, given)
  end

  @doc """
  The cosine of two pictures.
  """
  @spec cosine(term(), term(), Options.t()) :: {:ok, float()} | {:error, Error.t()}
  def cosine(picture, other, opts) do
    with {:ok, first} <- picture |> Picture.open(opts) |> named("first picture"),
         {:ok, second} <- other |> Picture.open(opts) |> named("second picture"),
         pictures = [{first, "first picture"}, {second, "second picture"}],
         {:ok, {_info, %{images: images}}} <- embed(pictures, [], opts) do
      half = div(byte_size(images), 2)
      <<embedding1::binary-size(half), embedding2::binary>> = images
      Error.from_native(Native.cosine(embedding1, embedding2))
    end
  end

  @doc """
  Embeddings of pictures, each with its name for errors or `nil`, and of prompts.
  """
  @spec embed([{Picture.t(), String.t() | nil}], [String.t()], Options.t()) :: Client.answer()
  def embed(pictures, prompts, opts) do
    prepare = fn info, deadline ->
      with {:ok, pixels} <- pixels(pictures, [], info.preprocessing, opts, deadline),
           do: {:ok, {pixels, prompts}}
    end

    Client.encode(opts, prepare, Model)
  end

  defp background(opts) do
    with {:ok, nil} <- Labels.background(opts) do
      if opts.multi_label,
        do: {:ok, {nil, Options.prompts(opts.template, @anything)}},
        else: {:ok, {nil, []}}
    end
  end

  defp pixels([], done, _preprocessing, _opts, _deadline), do: {:ok, Enum.reverse(done)}

  defp pixels([{picture, name} | pictures], done, preprocessing, opts, deadline) do
    with {:ok, pixels} <-
           picture |> Picture.pixels(preprocessing, opts, deadline) |> named(name),
         do: pixels(pictures, [pixels | done], preprocessing, opts, deadline)
  end

  defp named({:error, error}, name) when name != nil, do: {:error, Error.prefix(error, name)}
  defp named(other, _name), do: other
end
