defmodule Image.ZeroShot.CLI.SearchFlags do
  @moduledoc false

  # From the command line of `mix zero_shot.search` to a folder, a query, and options.

  alias Image.ZeroShot.CLI.{Flags, Switches}

  @switches [
    like: :string,
    duplicates: :boolean,
    top: :integer,
    min_score: :float,
    format: :string,
    html: :string,
    index: :string,
    template: :string,
    repo: :string,
    device: :string,
    precision: :string
  ]

  @task "zero_shot.search"
  @example ~s(such as mix zero_shot.search photos "a red car")

  # Of pictures that people would call the same, most have more.
  @duplicate 0.95

  @type t :: %{
          folder: Path.t(),
          query: {:text, String.t()} | {:path, Path.t()} | :duplicates,
          top: pos_integer(),
          min_score: float() | nil,
          format: :table | :json | :csv,
          html: Path.t() | nil,
          index: Path.t() | nil,
          template: keyword(),
          opts: keyword()
        }

  @spec parse([String.t()]) :: {:ok, t()} | {:error, String.t()}
  def parse(argv) do
    with {:ok, flags, folder, words} <- words(argv),
         {:ok, query} <- query(flags, words),
         {:ok, format} <- flags |> Keyword.get(:format, "table") |> Flags.format(),
         {:ok, html} <- Flags.html(flags[:html]),
         {:ok, index} <- Flags.written("--index", flags[:index], ~w(.index)),
         {:ok, template} <- Flags.template(flags),
         {:ok, model} <- Flags.model(flags),
         :ok <- numbers(flags) do
      {:ok,
       %{
         folder: folder,
         query: query,
         top: flags[:top] || 10,
         min_score: flags[:min_score] || if(query == :duplicates, do: @duplicate),
         format: format,
         html: html,
         index: index,
         template: template,
         opts: model
       }}
    end
  end

  defp words(argv) do
    case Switches.parse(argv, @switches, @task) do
      {:ok, flags, [folder | words]} ->
        {:ok, flags, folder, words}

      {:ok, _flags, []} ->
        {:error, "expected a folder, #{@example}; #{Switches.usage(@switches, @task)}"}

      {:error, message} ->
        {:error, message}
    end
  end

  defp query(flags, words) do
    like = flags[:like]

    case {words, like, flags[:duplicates] || false} do
      {[text], nil, false} when text != "" -> {:ok, {:text, text}}
      {[], like, false} when is_binary(like) -> {:ok, {:path, like}}
      {[], nil, true} -> {:ok, :duplicates}
      {[_, _ | _], nil, false} -> {:error, "expected the text as one word, #{@example}"}
      _several -> {:error, "expected one of a text, --like and --duplicates, #{@example}"}
    end
  end

  defp numbers(flags) do
    {top, score} = {flags[:top], flags[:min_score]}

    cond do
      top != nil and top not in 1..100_000 ->
        {:error, "expected --top to be a number from 1 to 100000, got: #{top}"}

      score != nil and (score < -1.0 or score > 1.0) ->
        {:error, "expected --min-score to be a number from -1 to 1, got: #{score}"}

      true ->
        :ok
    end
  end
end
