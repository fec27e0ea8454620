defmodule Image.ZeroShot.Call.Pipeline do
  @moduledoc false

  # The way of a call: from a picture and labels to results.

  require Logger

  alias Image.ZeroShot.{Classifier, Error, Native, Picture}
  alias Image.ZeroShot.Call.{Labels, Options}
  alias Image.ZeroShot.Serving.Model
  alias Image.ZeroShot.Serving.Client

  # Prompts of one call to a serving. A label set with more is compiled part by part, so that its
  # rows are not in memory before they are averaged.
  @part 512

  # What stands behind each label where labels are independent, unless `:other` says it.
  @background {nil, ["a photo"], [1]}

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
        rank_in_parts(picture, labels, background, opts)
      else
        rank_together(picture, labels, background, opts)
      end
    end
  end

  # All parts share the time of the call, which begins when the model is loaded, and its place.
  defp rank_in_parts(picture, labels, background, opts) do
    parts = div(length(labels.prompts) + @part - 1, @part)
    needs = %{needs([{picture, nil}], labels.prompts) | parts: parts}

    with {:ok, _info} <- Client.load(opts, Model) do
      Client.hold(opts, Model, needs, fn ->
        deadline = Client.deadline(opts.timeout)

        with {:ok, classifier} <- compile_parts(labels, opts, [], deadline),
             do: rank_compiled(picture, classifier, background, in_time(opts, deadline))
      end)
    end
  end

  defp in_time(opts, nil), do: opts
  defp in_time(opts, deadline), do: %{opts | timeout: Client.remaining(deadline)}

  defp rank_compiled(picture, classifier, {other, prompts, counts}, opts) do
    with {:ok, {info, embeddings}} <- embed([{picture, nil}], prompts, opts),
         :ok <- warn(cut(prompts, embeddings), prompts, info),
         :ok <- Classifier.check_model(classifier, info),
         {:ok, rows} <- Classifier.ensemble(counts, embeddings.texts),
         do: Classifier.rank(classifier, embeddings.images, {other, rows}, opts)
  end

  defp rank_together(picture, labels, {other, prompts, counts}, opts) do
    all = labels.prompts ++ prompts

    with {:ok, {info, embeddings}} <- embed([{picture, nil}], all, opts),
         :ok <- warn(cut(all, embeddings), all, info),
         {own, background} = split(embeddings, length(labels.prompts), info),
         {:ok, classifier} <- Classifier.new(labels, info, own, opts, []),
         {:ok, rows} <- Classifier.ensemble(counts, background),
         do: Classifier.rank(classifier, embeddings.images, {other, rows}, opts)
  end

  # The rows of the labels, and of what stands behind them.
  defp split(embeddings, count, info) do
    {texts, background} = :erlang.split_binary(embeddings.texts, count * info.dim * 4)
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
         {:ok, _info} <- Client.load(opts, Model) do
      needs = needs([], Enum.take(labels.prompts, @part))
      Client.hold(opts, Model, needs, fn -> compile_parts(labels, opts, given, nil) end)
    end
  end

  # Without a deadline each part has the time of a call.
  defp compile_parts(labels, opts, given, deadline) do
    labels
    |> Labels.parts(@part)
    |> Enum.reduce_while({[], [], nil}, fn part, {done, cut, _info} ->
      case compile_part(part, in_time(opts, deadline), given, done) do
        {:ok, classifier, more, info} -> {:cont, {[classifier | done], [more | cut], info}}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
    |> case do
      {:error, error} ->
        {:error, error}

      {parts, cut, info} ->
        :ok = cut |> Enum.reverse() |> Enum.concat() |> warn(labels.prompts, info)
        {:ok, parts |> Enum.reverse() |> Classifier.join()}
    end
  end

  # A model can be replaced while a long list is being compiled.
  defp compile_part(part, opts, given, done) do
    with {:ok, {info, embeddings}} <- embed([], part.prompts, opts),
         :ok <- if(done == [], do: :ok, else: Classifier.check_model(hd(done), info)),
         {:ok, classifier} <- Classifier.new(part, info, embeddings, opts, given),
         do: {:ok, classifier, cut(part.prompts, embeddings), info}
  end

  # The prompts that were cut, if that is news.
  defp cut(_prompts, %{news: false}), do: []

  defp cut(prompts, %{truncated: indices}) do
    indices = MapSet.new(indices)
    for {prompt, i} <- Enum.with_index(prompts), i in indices, do: prompt
  end

  # Once for a label set, however many parts it is compiled in.
  defp warn([], _prompts, _info), do: :ok

  defp warn(cut, prompts, info) do
    names = cut |> Enum.take(5) |> Enum.map_join(", ", &brief/1)
    more = if length(cut) > 5, do: ", …", else: ""

    Logger.warning(
      "#{length(cut)} of #{length(prompts)} prompts are longer than the " <>
        "#{info.context_length} tokens that the model reads, and were cut: #{names}#{more}"
    )
  end

  defp brief(text), do: inspect(text, binaries: :as_strings, printable_limit: 40)

  @doc """
  The cosine of two pictures.
  """
  @spec cosine(term(), term(), Options.t()) :: {:ok, float()} | {:error, Error.t()}
  def cosine(picture, other, opts) do
    with {:ok, first} <- picture |> Picture.open(opts) |> named("first picture"),
         {:ok, second} <- other |> Picture.open(opts) |> named("second picture"),
         pictures = [{first, "first picture"}, {second, "second picture"}],
         {:ok, {_info, %{images: images}}} <- embed(pictures, [], opts) do
      {embedding1, embedding2} = :erlang.split_binary(images, div(byte_size(images), 2))
      Error.from_native(Native.cosine(embedding1, embedding2))
    end
  end

  @doc """
  Embeddings of pictures, each with its name for errors or `nil`, and of prompts.
  """
  @spec embed([{Picture.t(), String.t() | nil}], [String.t()], Options.t()) :: Client.answer()
  def embed(pictures, prompts, opts) do
    prepare = fn info, wanted ->
      with {:ok, pixels} <- pixels(pictures, [], info.preprocessing, opts, wanted),
           do: {:ok, {pixels, prompts}}
    end

    Client.encode(opts, prepare, Model, needs(pictures, prompts))
  end

  defp needs(pictures, prompts) do
    count = length(pictures)
    %{pictures: count, decoded_here: count, prompts: prompts, parts: 1}
  end

  defp background(opts) do
    with {:ok, nil} <- Labels.background(opts),
         do: {:ok, if(opts.multi_label, do: @background, else: {nil, [], []})}
  end

  defp pixels([], done, _preprocessing, _opts, _wanted), do: {:ok, Enum.reverse(done)}

  defp pixels([{picture, name} | pictures], done, preprocessing, opts, wanted) do
    with {:ok, pixels} <- picture |> Picture.pixels(preprocessing, opts, wanted) |> named(name),
         do: pixels(pictures, [pixels | done], preprocessing, opts, wanted)
  end

  defp named({:error, error}, name) when name != nil, do: {:error, Error.prefix(error, name)}
  defp named(other, _name), do: other
end
