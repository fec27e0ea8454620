defmodule Image.ZeroShot.Classifier do
  @moduledoc """
  A label set compiled for one model: what the CLIP paper calls a zero-shot classifier.

  `Image.ZeroShot.classifier/2` embeds all prompts once. `Image.ZeroShot.classify/3` and
  `Image.ZeroShot.label/3` take the result instead of labels. They then compute only the picture, and
  compare it with all labels as one matrix.

      iex> animals = Image.ZeroShot.classifier(["cat", "dog"], repo: :embedded)
      #Image.ZeroShot.Classifier<2 labels, "emoji-clip">
      iex> Image.ZeroShot.label({:path, "priv/samples/dog.jpg"}, animals)
      "dog"

  A classifier is plain data that you can send to other processes and nodes. `to_binary/1` and
  `from_binary/2` store it in a file or a database.
  """

  alias Image.ZeroShot.{Error, Native, Serving, Source}
  alias Image.ZeroShot.Call.{Argument, Labels, Options, Secret, Started}
  alias Image.ZeroShot.Classifier.{Calibration, Codec, Scores}
  alias Image.ZeroShot.Serving.{Client, Identity}

  # How far the embedding of one prompt may be off and still be of the same model: precisions and
  # devices differ by less, models by far more.
  @same 0.99

  @enforce_keys [:labels, :texts, :model, :truncated, :probe, :template, :opts]
  defstruct [:labels, :texts, :model, :truncated, :probe, :template, :opts, :calibration]

  @typedoc """
  A compiled label set. The fields are private; see `info/1`.
  """
  @type t :: %__MODULE__{
          labels: tuple(),
          texts: binary(),
          model: map(),
          truncated: [non_neg_integer()],
          probe: {String.t(), binary()},
          template: [String.t() | nil],
          opts: keyword(),
          calibration: calibration() | nil
        }

  @typedoc """
  What `calibrate/3` found.

    * `:logit_scale` - the factor between cosines and scores, instead of the model's. `:temperature` is 1
      divided by it
    * `:threshold` - the cosine from which a label beats "none of these", or `nil` if no example
      was "none of these"
    * `:other` - the label of results for "none of these"
    * `:examples` - how many examples there were
    * `:before`, `:after` - how reliable the best scores of the examples were without the calibration, and
      are with it
  """
  @type calibration :: %{
          logit_scale: float(),
          temperature: float(),
          threshold: float() | nil,
          other: term(),
          examples: pos_integer(),
          before: reliability(),
          after: reliability()
        }

  @typedoc """
  How well the best score says how often the best answer is right.

    * `:accuracy` - the share of right answers
    * `:ece` - the expected calibration error: how far the share of right answers lies from the mean score,
      averaged over the tenths of the range. 0.0 is perfect
    * `:bins` - the reliability table: for each tenth of the range with examples in it `:from` and `:to`, how
      many there are (`:count`), their mean score (`:confidence`) and their share of right answers
      (`:accuracy`)
  """
  @type reliability :: %{accuracy: float(), ece: float(), bins: [map()]}

  @doc """
  Returns facts about a classifier.

    * `:labels` - the labels, in their order
    * `:truncated` - the labels with a prompt that was longer than the model reads
    * `:model` - the name of the model, its commit and the length of its embeddings
    * `:bytes` - what the embeddings take in memory
    * `:calibration` - what `calibrate/3` found, or `nil`: then scores are not calibrated

  ## Examples

      iex> classifier = Image.ZeroShot.classifier(%{1 => "a cat", 2 => ["a dog", "a puppy"]}, repo: :embedded)
      iex> info = Image.ZeroShot.Classifier.info(classifier)
      iex> {info.labels, info.truncated, info.model.name, info.bytes}
      {[1, 2], [], "emoji-clip", 1024}

  """
  @spec info(t()) :: %{required(atom()) => term()}
  def info(classifier) do
    classifier = check!(classifier)

    %{
      labels: Tuple.to_list(classifier.labels),
      truncated: Enum.map(classifier.truncated, &elem(classifier.labels, &1)),
      model: classifier.model,
      bytes: byte_size(classifier.texts),
      calibration: classifier.calibration
    }
  end

  @doc """
  Fits the scores of a classifier to pictures whose answers you know, so that a score of 0.9 means
  that about nine of ten such answers are right.

  `examples` are `{picture, label}`, in a list or another enumerable, with pictures as in
  `Image.ZeroShot.classify/3` or embeddings. Examples of "none of these" have the label that `:other`
  names, `nil` unless you say otherwise. With such examples the classifier learns a threshold, and its
  results have that label too.

  Two numbers are fitted: the `:logit_scale` (the inverse of the temperature), and the threshold.
  The order of the labels does not change. Use a hundred examples or more, like the pictures to
  come. Do not use pictures that you chose the labels by, or that a label was made of. With fewer
  than five examples of a kind (of the labels, or of none of these) the fit says little: a guard against
  overconfidence keeps its scores low, and a warning is logged.

  Returns the calibrated classifier. `info/1` has its `:calibration` with a reliability table and
  the expected calibration error before and after. The figures under `:after` are
  cross-validated: each example is judged by a fit to four fifths of the examples, to which it
  does not belong.

  Calls with a calibrated classifier use both numbers. They take neither `:other` nor
  `:logit_scale` nor `:multi_label`, for which the numbers do not hold. `scores: :cosine` and
  `scores: :logits` are never calibrated.

  ## Options

  The options of `Image.ZeroShot.embed_many/2`, and:

  #{Image.ZeroShot.Call.OptionTable.docs(:calibration)}

  ## Errors

  `:invalid_label` for an example whose label is not in the classifier, or if the examples cannot be
  fitted; the message says why. `:timeout` after `:max_time`. A picture that cannot be read is named by its
  index.

  ## Limits

  The labels of a list are checked first. A lazy enumerable is read as its pictures are embedded, at most
  `:window` of them ahead. The number of examples times the number of labels is at most 67,108,864,
  because the fit keeps a cosine for each of them in memory.

  ## Examples

      iex> classifier = Image.ZeroShot.classifier(["cat", "dog"], repo: :embedded)
      iex> examples = [
      ...>   {{:path, "priv/samples/cat.png"}, "cat"},
      ...>   {{:path, "priv/samples/dog.jpg"}, "dog"},
      ...>   {{:path, "priv/samples/pizza.webp"}, nil}
      ...> ]
      iex> {:ok, calibrated} = Image.ZeroShot.Classifier.calibrate(classifier, examples)
      iex> calibration = Image.ZeroShot.Classifier.info(calibrated).calibration
      iex> {calibration.examples, calibration.threshold > 0.0}
      {3, true}

  """
  @spec calibrate(t(), Enumerable.t({Source.t(), term()}), keyword()) ::
          {:ok, t()} | {:error, Error.t()}
  def calibrate(classifier, examples, opts \\ []) do
    classifier = check!(classifier)
    {own, stream, opts} = Options.calibrate!(opts, classifier.opts)

    with {:ok, calibration} <- Calibration.run(classifier, examples, own, opts, stream) do
      void = Options.void_when_calibrated()
      {:ok, %{classifier | calibration: calibration, opts: Keyword.drop(classifier.opts, void)}}
    end
  end

  @doc """
  Writes a classifier as a binary that `from_binary/2` reads on any machine.

  Raises an `ArgumentError` for labels that are processes, references or functions, because these
  cannot be read elsewhere.
  """
  @spec to_binary(t()) :: binary()
  def to_binary(classifier), do: classifier |> check!() |> kept() |> Codec.encode!()

  # What a binary has of it.
  defp kept(classifier), do: classifier |> Map.from_struct() |> Map.delete(:opts)

  @doc """
  Reads a classifier that `to_binary/1` wrote, for the model that `opts` name.

  To check that it is the same model, the model embeds one of the prompts again; if it is not, the reason
  is `:wrong_model`. A binary that is damaged, or that `to_binary/1` did not write, is an error too.
  Nothing in it becomes code or a new atom.

  ## Options

  The options of `Image.ZeroShot.classifier/2` that name the model, and those that say how to score by
  default.
  """
  @spec from_binary(binary(), keyword()) :: {:ok, t()} | {:error, Error.t()}
  def from_binary(binary, opts \\ []) do
    all = Options.classifier!(opts)

    with :ok <- Started.check(),
         {:ok, kept} <- Codec.decode(binary),
         {prompt, row} = kept.probe,
         {:ok, {info, %{texts: again}}} <- Client.embed_prompts([prompt], all),
         :ok <- same_model(kept, row, again, info),
         do:
           {:ok,
            struct!(__MODULE__, Map.merge(kept, %{model: Identity.of(info), opts: hide(opts)}))}
  end

  defp same_model(%{model: model}, row, again, info) do
    with true <- model.dim == info.dim,
         {:ok, cosine} when cosine >= @same <- Native.cosine(row, again) do
      :ok
    else
      _ -> wrong_model(model, info)
    end
  end

  # The rest is for `Image.ZeroShot`.

  @doc false
  # Fields that were changed by hand would fail somewhere inside.
  @spec check!(term()) :: t()
  def check!(%__MODULE__{opts: opts} = classifier) do
    if Keyword.keyword?(opts) and Codec.sound?(kept(classifier)),
      do: classifier,
      else: Argument.wrong!("a classifier as Image.ZeroShot.classifier/2 returned it", classifier)
  end

  def check!(other), do: Argument.wrong!("an Image.ZeroShot.Classifier", other)

  @doc false
  # `given` are the options as they were given, of which `opts` are the whole. `shown` are the rows of
  # the labels' pictures and how many each label has, or `nil`.
  @spec new(
          Labels.t(),
          Serving.info(),
          Client.embeddings(),
          %{rows: binary(), counts: [non_neg_integer()]} | nil,
          Options.t(),
          keyword()
        ) :: {:ok, t()} | {:error, Error.t()}
  def new(labels, info, embeddings, shown, opts, given) do
    with {:ok, texts} <- mean(labels.counts, embeddings.texts, shown, info.dim, opts) do
      {:ok,
       %__MODULE__{
         labels: List.to_tuple(labels.terms),
         texts: texts,
         model: Identity.of(info),
         truncated: owners(embeddings.truncated, labels.counts),
         # A copy, which does not keep the rows of all prompts alive.
         probe:
           {List.first(labels.prompts, "a photo"),
            embeddings.texts |> binary_part(0, info.dim * 4) |> :binary.copy()},
         template: opts.template,
         opts: hide(given)
       }}
    end
  end

  defp mean(counts, texts, nil, _dim, _opts), do: Scores.ensemble(counts, texts)
  defp mean(counts, texts, %{rows: <<>>}, _dim, _opts), do: Scores.ensemble(counts, texts)

  defp mean(counts, texts, shown, dim, opts) do
    own = binary_part(texts, 0, Enum.sum(counts) * dim * 4)

    dim
    |> Native.mix({own, counts}, {shown.rows, shown.counts}, opts.picture_weight)
    |> Error.from_native()
  end

  @doc false
  # One classifier of parts of a label set that were compiled one after the other.
  @spec join([t(), ...]) :: t()
  def join([first | _] = parts) do
    {truncated, _} =
      Enum.flat_map_reduce(parts, 0, fn part, before ->
        {Enum.map(part.truncated, &(&1 + before)), before + tuple_size(part.labels)}
      end)

    %{
      first
      | labels: parts |> Enum.flat_map(&Tuple.to_list(&1.labels)) |> List.to_tuple(),
        texts: parts |> Enum.map(& &1.texts) |> IO.iodata_to_binary(),
        truncated: truncated
    }
  end

  @doc false
  @spec check_model(t(), Serving.info()) :: :ok | {:error, Error.t()}
  def check_model(%{model: model}, info),
    do: if(model == Identity.of(info), do: :ok, else: wrong_model(model, info))

  # A classifier lies in the state of processes, whose crash reports do not ask how to be shown.
  defp hide(opts) do
    case opts[:token] do
      token when is_binary(token) -> Keyword.put(opts, :token, Secret.new(token))
      _ -> opts
    end
  end

  defp wrong_model(model, info) do
    Error.error(
      :wrong_model,
      "the classifier was compiled for #{Identity.shown(model)}, and the call goes to " <>
        "#{Identity.shown(Identity.of(info))}; compile the labels for that model, or name the other one"
    )
  end

  # The labels that these prompts belong to.
  defp owners([], _counts), do: []

  defp owners(prompts, counts) do
    cut = MapSet.new(prompts)

    {owners, _} =
      counts
      |> Enum.with_index()
      |> Enum.flat_map_reduce(0, fn {count, i}, first ->
        any = Enum.any?(first..(first + count - 1), &(&1 in cut))
        {if(any, do: [i], else: []), first + count}
      end)

    owners
  end

  defimpl Inspect do
    def inspect(%{labels: labels, model: %{name: name}}, _opts) when is_tuple(labels) do
      count = tuple_size(labels)
      noun = if count == 1, do: "label", else: "labels"
      "#Image.ZeroShot.Classifier<#{count} #{noun}, #{Kernel.inspect(name)}>"
    end

    # Made by hand.
    def inspect(classifier, opts), do: Inspect.Any.inspect(classifier, opts)
  end
end
