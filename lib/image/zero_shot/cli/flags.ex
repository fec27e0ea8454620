defmodule Image.ZeroShot.CLI.Flags do
  @moduledoc false

  # From a command line to paths, labels and the options of `Image.ZeroShot.classify_many/3`, or of
  # suggestions.

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Call.{OptionTable, Templates}
  alias Image.ZeroShot.CLI.Switches

  @switches [
    labels: :keep,
    labels_file: :keep,
    suggest: :boolean,
    vocabulary: :string,
    template: :keep,
    top: :integer,
    min_score: :float,
    multi_label: :boolean,
    scores: :string,
    other: :string,
    format: :string,
    html: :string,
    repo: :string,
    device: :string,
    precision: :string
  ]

  @precisions for {:precision, {:one_of, names}, _default, _group, _doc} <-
                    OptionTable.rows([:model]),
                  name <- names,
                  do: Atom.to_string(name)

  @scores for {:scores, {:one_of, names}, _default, _group, _doc} <- OptionTable.rows([:scores]),
              name <- names,
              do: Atom.to_string(name)

  # From where to where scores go, as far as they have bounds.
  @ranges %{softmax: {0, 1}, sigmoid: {0, 1}, cosine: {-1, 1}, logits: {-1.0e6, 1.0e6}}

  @formats %{"table" => :table, "json" => :json, "csv" => :csv}

  # As many as fit beside a file name.
  @top_of_table 3

  # As many as fit beside a thumbnail.
  @top_of_page 5

  # What does not go together with suggestions, and the way out.
  @not_suggested [
    labels:
      "expected no --labels together with --suggest, which ranks a vocabulary; leave out one of " <>
        "them, or write the labels to a file for --vocabulary FILE",
    labels_file:
      "expected no --labels-file together with --suggest, which ranks a vocabulary; leave out one " <>
        "of them, or give the file as --vocabulary FILE",
    multi_label:
      "expected no --multi-label together with --suggest, whose scores are shares of the whole " <>
        "vocabulary; leave it out, or give labels instead of --suggest",
    scores:
      "expected no --scores together with --suggest, whose scores are shares of the whole " <>
        "vocabulary; leave it out, or give labels instead of --suggest",
    other:
      "expected no --other together with --suggest, which ranks a vocabulary; leave it out, or give " <>
        "labels instead of --suggest"
  ]

  @task "zero_shot.classify"

  @type t :: %{
          paths: [Path.t(), ...],
          labels: [String.t(), ...] | :suggested,
          format: :table | :json | :csv,
          html: Path.t() | nil,
          scores: :softmax | :sigmoid | :logits | :cosine,
          opts: keyword()
        }

  @spec parse([String.t()]) :: {:ok, t()} | {:error, String.t()}
  def parse(argv) do
    with {:ok, flags, paths} <- words(argv),
         {:ok, labels, own} <- subject(flags),
         {:ok, format} <- format(Keyword.get(flags, :format, "table")),
         {:ok, html} <- html(flags[:html]),
         {:ok, top} <- top(flags[:top], if(html, do: :html, else: format)),
         scores = Keyword.get(own, :scores, :softmax),
         :ok <- bars(html, scores),
         {:ok, least} <- min_score(flags[:min_score], @ranges[scores]),
         {:ok, template} <- template(flags),
         {:ok, model} <- model(flags) do
      opts = top_k(top, labels) ++ own ++ least ++ template ++ model
      flags = %{paths: paths, labels: labels, format: format, html: html}
      {:ok, Map.merge(flags, %{scores: scores, opts: opts})}
    end
  end

  defp words(argv) do
    with {:ok, _flags, []} <- Switches.parse(argv, @switches, @task) do
      {:error,
       "expected pictures, folders or wildcards, such as \"photos/*.jpg\"; " <>
         Switches.usage(@switches, @task)}
    end
  end

  # The labels, or that they are suggested, and the options of that.
  defp subject(flags) do
    if flags[:suggest], do: suggested(flags), else: some_labels(flags)
  end

  defp suggested(flags) do
    case Enum.find(@not_suggested, fn {name, _message} -> flags[name] end) do
      nil -> with {:ok, own} <- vocabulary(flags[:vocabulary]), do: {:ok, :suggested, own}
      {_name, message} -> {:error, message}
    end
  end

  defp vocabulary(nil), do: {:ok, []}

  defp vocabulary(path) do
    if path != "" and String.valid?(path),
      do: {:ok, [vocabulary: path]},
      else:
        {:error,
         "expected --vocabulary to be the name of a file, in UTF-8, got: #{inspect(path)}"}
  end

  defp some_labels(flags) do
    case {flags[:vocabulary], labels(flags)} do
      {nil, {:ok, [_ | _] = labels}} ->
        with {:ok, scores} <- scores(flags[:scores]),
             :ok <- other(flags, labels),
             do: {:ok, labels, Keyword.take(flags, [:multi_label, :other]) ++ scores}

      {nil, {:ok, []}} ->
        {:error,
         ~s(expected labels, as --labels "a dog, a cat" or --labels-file FILE; without any, use --suggest)}

      {nil, {:error, message}} ->
        {:error, message}

      {_path, _labels} ->
        {:error,
         "expected --suggest together with --vocabulary; to classify with the lines of a file, " <>
           "use --labels-file FILE"}
    end
  end

  # There would be two results of one name.
  defp other(flags, labels) do
    if flags[:other] in labels and not Keyword.get(flags, :multi_label, false),
      do:
        {:error,
         "expected --other to differ from every label, got: #{flags[:other]}; leave it out or take another name"},
      else: :ok
  end

  defp scores(nil), do: {:ok, []}
  defp scores(name) when name in @scores, do: {:ok, [scores: String.to_existing_atom(name)]}

  defp scores(name),
    do: {:error, "expected --scores to be one of #{Enum.join(@scores, ", ")}, got: #{name}"}

  defp bars(html, :logits) when html != nil,
    do: {:error, "expected no --scores logits together with --html, whose bars end at 1"}

  defp bars(_html, _scores), do: :ok

  @doc """
  The labels of `:labels` and `:labels_file`, in the order in which they are given.
  """
  @spec labels(keyword()) :: {:ok, [String.t()]} | {:error, String.t()}
  def labels(flags) do
    flags
    |> Keyword.take([:labels, :labels_file])
    |> Enum.reduce_while({:ok, []}, fn flag, {:ok, labels} ->
      case listed(flag) do
        {:ok, more} -> {:cont, {:ok, labels ++ more}}
        {:error, message} -> {:halt, {:error, message}}
      end
    end)
  end

  # Only a name with an ending: a label may well be called like a file without one.
  defp listed({:labels, text}) do
    if Path.extname(text) != "" and File.regular?(text),
      do: {:error, "expected labels after --labels, got the file #{text}; give --labels-file"},
      else: {:ok, parts(text, ",")}
  end

  defp listed({:labels_file, path}) do
    case File.read(path) do
      {:ok, text} ->
        {:ok, text |> String.trim_leading("\uFEFF") |> parts("\n")}

      {:error, reason} ->
        {:error,
         "expected --labels-file to be a file with labels; #{Error.file(path, reason).message}"}
    end
  end

  defp parts(text, separator) do
    text |> String.split(separator) |> Enum.map(&String.trim/1) |> Enum.reject(&(&1 == ""))
  end

  @spec format(String.t()) :: {:ok, :table | :json | :csv} | {:error, String.t()}
  def format(name) do
    with :error <- Map.fetch(@formats, name),
         do: {:error, "expected --format to be table, json or csv, got: #{name}"}
  end

  @doc """
  The name of a page.
  """
  @spec html(String.t() | nil) :: {:ok, Path.t() | nil} | {:error, String.t()}
  def html(path), do: written("--html", path, ~w(.html .htm))

  @doc """
  The name of a file to write. It has to end as such files do: a slip must not replace a picture.
  """
  @spec written(String.t(), String.t() | nil, [String.t(), ...]) ::
          {:ok, Path.t() | nil} | {:error, String.t()}
  def written(_flag, nil, _endings), do: {:ok, nil}

  def written(flag, path, [ending | _] = endings) do
    if Path.extname(path) in endings,
      do: {:ok, path},
      else:
        {:error, "expected #{flag} to be the name of a file that ends in #{ending}, got: #{path}"}
  end

  defp top(nil, :html), do: {:ok, @top_of_page}
  defp top(nil, :table), do: {:ok, @top_of_table}
  defp top(nil, _all), do: {:ok, nil}
  # More than there can be is all.
  defp top(top, _format) when top > 0, do: {:ok, min(top, 1_000_000)}
  defp top(top, _format), do: {:error, "expected --top to be a positive number, got: #{top}"}

  # As many as `Image.ZeroShot.suggest/2` returns by itself.
  defp top_k(nil, :suggested), do: []
  defp top_k(top, _labels), do: [top_k: top]

  defp min_score(nil, _range), do: {:ok, []}
  defp min_score(least, {a, b}) when least >= a and least <= b, do: {:ok, [min_score: least]}

  defp min_score(least, {a, b}),
    do: {:error, "expected --min-score to be from #{a} to #{b}, got: #{least}"}

  @doc """
  The options that name a model and how it computes, of `:repo`, `:device` and `:precision`.
  """
  @spec model(keyword()) :: {:ok, keyword()} | {:error, String.t()}
  def model(flags) do
    with {:ok, device} <- device(flags[:device]),
         {:ok, precision} <- precision(flags[:precision]),
         do: {:ok, device ++ precision ++ repo(flags[:repo])}
  end

  defp device(nil), do: {:ok, []}
  defp device(name) when name in ~w(auto cpu cuda mps), do: {:ok, [device: String.to_atom(name)]}

  defp device("cuda:" <> index = name) do
    case Integer.parse(index) do
      {index, ""} when index >= 0 -> {:ok, [device: {:cuda, index}]}
      _no_index -> no_device(name)
    end
  end

  defp device(name), do: no_device(name)

  defp no_device(name),
    do: {:error, "expected --device to be auto, cpu, cuda, cuda:1 or mps, got: #{name}"}

  defp precision(nil), do: {:ok, []}

  defp precision(name) when name in @precisions,
    do: {:ok, [precision: String.to_existing_atom(name)]}

  defp precision(name),
    do:
      {:error, "expected --precision to be one of #{Enum.join(@precisions, ", ")}, got: #{name}"}

  @doc """
  The option of `:template`, which may be given several times.
  """
  @spec template(keyword()) :: {:ok, keyword()} | {:error, String.t()}
  def template(flags) do
    case Keyword.get_values(flags, :template) do
      [] -> {:ok, []}
      [one] -> one |> template_named() |> placed()
      several -> placed(several)
    end
  end

  defp placed(template) do
    case Enum.find(List.wrap(template), &(is_binary(&1) and not (&1 =~ "{label}"))) do
      nil ->
        {:ok, [template: template]}

      text ->
        {:error,
         "expected --template to contain {label} where the label goes, such as " <>
           ~s(--template "a photo of {label}", got: #{text})}
    end
  end

  @doc """
  A template, or the name of a list of them.
  """
  @spec template_named(String.t()) :: String.t() | atom()
  def template_named(text), do: Enum.find(Templates.names(), text, &(to_string(&1) == text))

  @doc """
  The option of `:repo`. A name on the Hub has no more than one slash, and begins with neither of `.`, `/` and `~`.
  """
  @spec repo(String.t() | nil) :: keyword()
  def repo(nil), do: []
  def repo("embedded"), do: [repo: :embedded]

  def repo(name) do
    if File.dir?(name) or name =~ ~r{\A[./~]|/.*/},
      do: [repo: {:local, Path.expand(name)}],
      else: [repo: name]
  end
end
