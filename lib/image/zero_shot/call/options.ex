defmodule Image.ZeroShot.Call.Options do
  @moduledoc false

  # Which options each call takes, and what holds for several of them together. `OptionTable` describes
  # the options, `OptionValues` reads them.

  import Image.ZeroShot.Call.OptionValues,
    only: [build!: 2, build!: 3, check_names!: 2, keyword!: 1]

  alias Image.ZeroShot.Call.{OptionTable, OptionValues, Secret}
  alias Image.ZeroShot.Hub.Repo

  @model [:repo, :model, :hub]
  @call [:call, :target] ++ @model
  @picture [:picture, :picture_limits]
  @labels [:labels, :label_limits]
  @classify @call ++ @labels ++ [:scores, :results] ++ @picture
  @embed @call ++ @picture
  @text @call ++ @labels
  @suggest [:suggest, :results | @labels] ++ @embed

  # How many labels are suggested.
  @suggested 10

  # What a calibration does not hold for.
  @void [:other, :logit_scale, :multi_label]

  @type t :: OptionValues.t()

  @spec classify!(keyword()) :: t()
  def classify!(opts), do: opts |> call!(@classify) |> one_scoring!() |> reachable_score!()

  @doc """
  The options of a stream of pictures that no other call has, checked, and the rest.
  """
  @spec stream!(keyword(), [OptionTable.group()]) :: {t(), keyword()}
  def stream!(opts, groups \\ @classify) do
    check_names!(opts, [:stream | groups])
    {own, rest} = Keyword.split(opts, OptionTable.names([:stream]))
    # The wait for the pictures before it counts as well, so no picture has a limit of its own.
    {build!(own, [:stream]), Keyword.put_new(rest, :timeout, :infinity)}
  end

  @doc """
  The options of an explanation that no other call has, checked, and the rest, which are those of a
  classification.
  """
  @spec explain!(keyword()) :: {t(), keyword()}
  def explain!(opts) do
    check_names!(opts, [:explain | @classify])
    {own, rest} = Keyword.split(opts, OptionTable.names([:explain]))
    {build!(own, [:explain]), rest}
  end

  @doc """
  The options of calls that embed pictures.
  """
  @spec embed!(keyword()) :: t()
  def embed!(opts), do: call!(opts, @embed)

  @doc """
  The options of a stream of pictures to embed: those of streams, and the others.
  """
  @spec embed_many!(keyword()) :: {t(), t()}
  def embed_many!(opts) do
    {own, rest} = stream!(opts, @embed)
    {own, embed!(rest)}
  end

  @doc """
  The options of a call that embeds texts. A template in the configuration is for labels.
  """
  @spec embed_text!(keyword()) :: t()
  def embed_text!(opts),
    do: opts |> keyword!() |> Keyword.put_new(:template, nil) |> call!(@text)

  @doc """
  The options of a call that suggests labels: few are asked for, unless the call itself says how many.
  """
  @spec suggest!(keyword()) :: t()
  def suggest!(opts) do
    opts
    |> keyword!()
    |> Keyword.put_new(:top_k, @suggested)
    |> call!(@suggest)
    |> Map.merge(%{scores: :softmax, multi_label: false, other: nil, logit_scale: nil})
    |> reachable_score!()
  end

  @doc """
  The options of a stream of pictures to suggest labels for: those of streams, and the others.
  """
  @spec suggest_many!(keyword()) :: {t(), t()}
  def suggest_many!(opts) do
    {own, rest} = stream!(opts, @suggest)
    {own, suggest!(rest)}
  end

  @doc """
  The options of an index: a new one, one that is loaded from a file, or one with a process.
  """
  @spec index!(keyword(), :new | :load | :process) :: t()
  def index!(opts, :new), do: build!(opts, [:index, :index_limit])
  def index!(opts, :load), do: build!(opts, [:index_limit])
  def index!(opts, :process), do: build!(opts, [:index, :index_limit, :index_process])

  @doc """
  The options of a search in an index, and those for embedding the query where that is needed.
  """
  @spec nearest!(keyword(), :picture | :text | :ready) :: {t(), keyword()}
  def nearest!(opts, :ready), do: {build!(opts, [:nearest, :call]), []}

  def nearest!(opts, kind) do
    check_names!(opts, [:nearest | if(kind == :text, do: @text, else: @embed)])
    {own, rest} = opts |> keyword!() |> Keyword.split(OptionTable.names([:nearest]))
    {build!(own ++ Keyword.take(rest, [:timeout]), [:nearest, :call]), rest}
  end

  @doc """
  The options of a label set that is compiled.
  """
  @spec classifier!(keyword()) :: t()
  def classifier!(opts),
    do: opts |> call!([:examples | @classify]) |> one_scoring!() |> reachable_score!()

  @doc """
  The options of a calibration, of the stream of its examples, and of embedding them. Those of the
  classifier, `compiled`, hold where the call gives none.
  """
  @spec calibrate!(keyword(), keyword()) :: {t(), t(), t()}
  def calibrate!(opts, compiled) do
    check_names!(opts, [:calibration, :stream | @embed])
    {own, rest} = Keyword.split(opts, OptionTable.names([:calibration]))
    embed = OptionTable.names(@embed)
    {stream, embed} = compiled |> Keyword.take(embed) |> merged(rest) |> embed_many!()
    {build!(own, [:calibration]), stream, embed}
  end

  @doc """
  Options that a calibration does not hold for.
  """
  @spec void_when_calibrated() :: [atom()]
  def void_when_calibrated, do: @void

  defp one_scoring!(%{multi_label: true, scores: scores}) when scores != :softmax do
    raise ArgumentError,
          "expected no :scores together with multi_label: true, which has scores of its own, " <>
            "got: #{inspect(scores)}"
  end

  defp one_scoring!(opts), do: opts

  # A percentage, or a logit's bound for softmax, would leave out everything without a word.
  defp reachable_score!(%{min_score: least, scores: scores})
       when is_number(least) and least > 1 and scores != :logits do
    raise ArgumentError,
          "expected :min_score to be at most 1, the highest score there is with " <>
            "scores: #{inspect(scores)}, got: #{inspect(least)}"
  end

  defp reachable_score!(opts), do: opts

  @doc """
  The options of a call with a classifier, whose own options, `compiled`, hold where the call gives
  none.
  """
  @spec classified!(keyword(), keyword()) :: t()
  def classified!(opts, compiled) do
    for name <- OptionTable.names(@labels), Keyword.has_key?(keyword!(opts), name) do
      raise ArgumentError,
            "expected no #{inspect(name)} together with a classifier, whose prompts are compiled"
    end

    compiled |> Keyword.drop(OptionTable.names([:examples])) |> merged(opts) |> classify!()
  end

  # What was said of the classifier's model does not hold for another one.
  defp merged(compiled, opts) do
    elsewhere = Enum.any?([:serving, :repo], &Keyword.has_key?(opts, &1))
    model = OptionTable.names([:target | @model])
    compiled = if elsewhere, do: Keyword.drop(compiled, model), else: compiled
    Keyword.merge(compiled, opts)
  end

  @doc """
  The same for a calibrated classifier, whose scale and threshold hold whatever the configuration says.
  """
  @spec calibrated!(keyword(), keyword()) :: t()
  def calibrated!(opts, compiled) do
    for name <- @void, Keyword.has_key?(merged(compiled, keyword!(opts)), name) do
      raise ArgumentError,
            "expected no #{inspect(name)} together with a calibrated classifier, for which its " <>
              "scores do not hold; use the classifier from before the calibration"
    end

    Map.merge(classified!(opts, compiled), %{other: nil, logit_scale: nil, multi_label: false})
  end

  @doc """
  What the caller says about a bare vector, or `nil` for a binary that names its own model.
  """
  @spec embedding!(keyword()) :: t() | nil
  def embedding!([]), do: nil

  def embedding!(opts) do
    with %{model: nil} <- build!(opts, [:embedding]) do
      raise ArgumentError,
            "expected :model with #{opts |> Keyword.keys() |> Enum.map_join(", ", &inspect/1)}: " <>
              "a bare vector does not say which model it is of"
    end
  end

  @doc """
  How a picture is decoded and what it may cost, of a call's options.
  """
  @spec picture(t()) :: map()
  def picture(opts), do: Map.take(opts, OptionTable.names(@picture))

  @doc """
  The options of a call about a model, without a picture.
  """
  @spec model!(keyword()) :: t()
  def model!(opts), do: call!(opts, @call)

  # A call may have to start a serving, whose options then come from the configuration.
  defp call!(opts, groups), do: opts |> build!(groups, [:serving]) |> one_model!(opts)

  # A serving with a name has its model already.
  defp one_model!(%{serving: nil} = built, _opts), do: built

  defp one_model!(built, opts) do
    case Keyword.take(opts, OptionTable.names(@model)) do
      [] ->
        built

      [{name, _value} | _] = given ->
        # An option of the call wins over a serving named in the configuration.
        if Keyword.has_key?(opts, :serving),
          do:
            raise(
              ArgumentError,
              "expected #{inspect(name)} not to be given together with :serving, whose model " <>
                "was chosen where it was started, got: #{inspect(Secret.redact(given))}"
            ),
          else: %{built | serving: nil}
    end
  end

  @doc """
  The options of a call that loads a model.
  """
  @spec load!(keyword()) :: t()
  def load!(opts), do: opts |> build!([:target] ++ @model ++ [:serving]) |> one_model!(opts)

  @doc """
  The options of a call that unloads a model of this library's own supervisor.
  """
  @spec unload!(keyword()) :: t()
  def unload!(opts), do: opts |> build!(@model) |> Map.put(:serving, nil)

  @doc """
  The options of a serving in an application's own tree.
  """
  @spec serving!(keyword()) :: t()
  def serving!(opts), do: build!(opts, [:name] ++ @model ++ [:serving])

  @doc """
  The options of a stub that stands for such a serving.
  """
  @spec stub!(keyword()) :: t()
  def stub!(opts), do: build!(opts, [:name, :stub] ++ @model ++ [:serving])

  @doc """
  The options of `Image.ZeroShot.Hub`, for a model by its name on the Hub.
  """
  @spec hub!(Repo.t(), keyword()) :: t()
  def hub!(repo, opts) do
    if repo == :embedded or match?({:local, _}, repo) do
      raise ArgumentError,
            "expected the name of a model such as \"org/name\", got: #{inspect(repo)}"
    end

    check_names!(opts, [:hub, :fetch])
    build!([{:repo, repo} | opts], [:repo, :hub, :fetch])
  end
end
