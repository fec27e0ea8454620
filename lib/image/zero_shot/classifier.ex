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

  alias Image.ZeroShot.{Error, Native, Serving}
  alias Image.ZeroShot.Call.{Labels, Options, Secret, Started}
  alias Image.ZeroShot.Classifier.Codec
  alias Image.ZeroShot.Serving.Client

  # How far the embedding of one prompt may be off and still be of the same model: precisions and
  # devices differ by less, models by far more.
  @same 0.99

  @enforce_keys [:labels, :texts, :model, :truncated, :probe, :template, :opts]
  defstruct [:labels, :texts, :model, :truncated, :probe, :template, :opts]

  @typedoc """
  A compiled label set. The fields are private; see `info/1`.
  """
  @type t :: %__MODULE__{
          labels: tuple(),
          texts: binary(),
          model: %{
            name: String.t(),
            commit: String.t() | nil,
            dim: pos_integer(),
            logit_scale: float()
          },
          truncated: [non_neg_integer()],
          probe: {String.t(), binary()},
          template: [String.t() | nil],
          opts: keyword()
        }

  @doc """
  Returns facts about a classifier.

    * `:labels` - the labels, in their order
    * `:truncated` - the labels with a prompt that was longer than the model reads
    * `:model` - the name of the model, its commit and the length of its embeddings
    * `:bytes` - what the embeddings take in memory

  ## Examples

      iex> classifier = Image.ZeroShot.classifier(%{1 => "a cat", 2 => ["a dog", "a puppy"]}, repo: :embedded)
      iex> info = Image.ZeroShot.Classifier.info(classifier)
      iex> {info.labels, info.truncated, info.model.name, info.bytes}
      {[1, 2], [], "emoji-clip", 1024}

  """
  @spec info(t()) :: %{required(atom()) => term()}
  def info(%__MODULE__{} = classifier) do
    %{
      labels: Tuple.to_list(classifier.labels),
      truncated: Enum.map(classifier.truncated, &elem(classifier.labels, &1)),
      model: classifier.model,
      bytes: byte_size(classifier.texts)
    }
  end

  @doc """
  Writes a classifier as a binary that `from_binary/2` reads on any machine.

  Raises an `ArgumentError` for labels that are processes, references or functions, because these
  cannot be read elsewhere.
  """
  @spec to_binary(t()) :: binary()
  def to_binary(%__MODULE__{} = classifier) do
    classifier |> Map.from_struct() |> Map.delete(:opts) |> Codec.encode!()
  end

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
           {:ok, struct!(__MODULE__, Map.merge(kept, %{model: identity(info), opts: hide(opts)}))}
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
  # `given` are the options as they were given, of which `opts` are the whole.
  @spec new(Labels.t(), Serving.info(), Serving.Client.embeddings(), Options.t(), keyword()) ::
          {:ok, t()} | {:error, Error.t()}
  def new(labels, info, embeddings, opts, given) do
    with {:ok, texts} <- ensemble(labels.counts, embeddings.texts) do
      {:ok,
       %__MODULE__{
         labels: List.to_tuple(labels.terms),
         texts: texts,
         model: identity(info),
         truncated: owners(embeddings.truncated, labels.counts),
         # A copy, which does not keep the rows of all prompts alive.
         probe:
           {hd(labels.prompts),
            embeddings.texts |> binary_part(0, info.dim * 4) |> :binary.copy()},
         template: opts.template,
         opts: hide(given)
       }}
    end
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
    do: if(model == identity(info), do: :ok, else: wrong_model(model, info))

  # A classifier lies in the state of processes, whose crash reports do not ask how to be shown.
  defp hide(opts) do
    case opts[:token] do
      token when is_binary(token) -> Keyword.put(opts, :token, Secret.new(token))
      _ -> opts
    end
  end

  # Of two local models with the same name and size the scale is likely to differ.
  defp identity(info), do: Map.take(info, [:name, :commit, :dim, :logit_scale])

  defp wrong_model(model, info) do
    Error.error(
      :wrong_model,
      "the classifier was compiled for #{shown(model)}, and the call goes to " <>
        "#{shown(identity(info))}; compile the labels for that model, or name the other one"
    )
  end

  defp shown(%{commit: nil} = model), do: "#{inspect(model.name)} (#{model.dim} dimensions)"
  defp shown(model), do: "#{inspect(model.name)} at #{model.commit}"

  @doc false
  # Results for the embedding of one picture, best first. `background` is the name and the rows of
  # what stands behind the labels.
  @spec rank(t(), binary(), {term(), binary()}, Options.t()) ::
          {:ok, [%{label: term(), score: float()}]} | {:error, Error.t()}
  def rank(%__MODULE__{} = classifier, image, {other, background}, opts) do
    scoring = %{
      kind: if(opts.multi_label, do: :independent, else: opts.scores),
      logit_scale: opts.logit_scale || classifier.model.logit_scale,
      top: opts.top_k,
      least: opts.min_score
    }

    with {:ok, ranked} <-
           Error.from_native(Native.rank(image, classifier.texts, background, scoring)) do
      {:ok, results(ranked, classifier.labels, other)}
    end
  end

  defp results(ranked, labels, other) do
    for {index, score} <- ranked do
      label = if index < tuple_size(labels), do: elem(labels, index), else: other
      %{label: label, score: score}
    end
  end

  @doc false
  # One row for each count of rows.
  @spec ensemble([pos_integer()], binary()) :: {:ok, binary()} | {:error, Error.t()}
  def ensemble(counts, texts) do
    if Enum.all?(counts, &(&1 == 1)),
      do: {:ok, texts},
      else: texts |> Native.ensemble(counts) |> Error.from_native()
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
    def inspect(%{labels: labels, model: model}, _opts) do
      count = tuple_size(labels)
      noun = if count == 1, do: "label", else: "labels"
      "#Image.ZeroShot.Classifier<#{count} #{noun}, #{Kernel.inspect(model.name)}>"
    end
  end
end
