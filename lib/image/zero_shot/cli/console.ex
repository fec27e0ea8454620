defmodule Image.ZeroShot.CLI.Console do
  @moduledoc false

  # Runs `mix zero_shot.classify`. Returns instead of halting the VM.
  #
  # Rows go to the standard output as they come, everything else to the standard error.

  import Image.ZeroShot.CLI.Output

  alias Image.ZeroShot
  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Call.{Options, Suggest, Vocabulary}
  alias Image.ZeroShot.CLI.{Flags, Gallery, Paths, Rows, Thumbnails}
  alias Image.ZeroShot.Hub.Progress

  @typedoc """
  `:columns` of the terminal, `nil` without one. `:beside` is where everything but rows goes: to
  `:stderr`, unless both outputs are one terminal.
  """
  @type output :: [columns: non_neg_integer() | nil, beside: :stdio | :stderr]

  @spec run([String.t()], output()) :: :ok | {:error, String.t()}
  def run(argv, output \\ []) do
    with {:ok, flags} <- Flags.parse(argv),
         {:ok, labels} <- checked(flags),
         {paths, faults} = Paths.expand(flags.paths),
         :ok <- some(paths, faults) do
      flags = Map.merge(flags, %{paths: paths, shown: labels ++ other(flags.opts)})
      in_bytes(fn -> with_page(flags, &classify(flags, &1, faults, output)) end)
    else
      {:error, message} -> {:error, one_line(message)}
    end
  rescue
    error in Error -> {:error, one_line(error.message)}
  end

  defp other(opts), do: List.wrap(opts[:other])

  # Before any folder is searched. A mistake in the configuration gets the same error as one in a flag.
  # Returns the labels that may be shown.
  defp checked(flags) do
    ranked([], flags)
    {:ok, if(flags.labels == :suggested, do: vocabulary(flags.opts), else: flags.labels)}
  rescue
    error in ArgumentError -> {:error, Exception.message(error)}
  end

  defp vocabulary(opts) do
    case opts |> Options.suggest!() |> Vocabulary.labels() do
      {:ok, labels} -> Enum.map(labels.terms, &text!/1)
      {:error, error} -> raise error
    end
  end

  # A vocabulary in the configuration can have labels of any kind.
  defp text!(label) when is_binary(label), do: label

  defp text!(label) do
    raise ArgumentError,
          "expected labels of the configured :vocabulary to be strings, got: #{inspect(label)}; " <>
            "give a list of words with --vocabulary FILE"
  end

  defp ranked(pictures, %{labels: :suggested, opts: opts}) do
    {own, opts} = Options.suggest_many!(opts)
    Suggest.stream(pictures, opts, own)
  end

  defp ranked(pictures, %{labels: labels, opts: opts}),
    do: ZeroShot.classify_many(pictures, labels, opts)

  defp some([], [fault | _]), do: {:error, fault}
  defp some(_paths, _faults), do: :ok

  # A page that was not finished is removed.
  defp with_page(%{html: nil}, classify), do: classify.(nil)

  defp with_page(flags, classify) do
    page = Gallery.start(flags.html, title(flags))

    try do
      outcome = classify.(page)
      Gallery.finish(page)
      outcome
    after
      Gallery.abandon(page)
    end
  end

  defp title(%{paths: paths} = flags) do
    noun = if length(paths) == 1, do: "picture", else: "pictures"
    "#{length(paths)} #{noun}: #{about(flags)}"
  end

  defp about(%{labels: :suggested}), do: "suggested labels"

  defp about(%{labels: labels}) do
    more = if length(labels) > 6, do: ", …"
    "#{labels |> Enum.take(6) |> Enum.join(", ")}#{more}"
  end

  defp classify(flags, page, faults, output) do
    beside = Keyword.get(output, :beside, :stderr)
    all = length(flags.paths)

    shown = %{
      rows: Rows.new(flags.format, flags.paths, flags.shown, flags.scores),
      page: page,
      progress: Progress.new(:pictures, all),
      step: %{done: 0, failed: 0, total: all},
      columns: output[:columns],
      beside: beside
    }

    Enum.each(faults, &tell(&1, beside))
    IO.binwrite(Rows.head(shown.rows))
    draw(shown)
    shown = flags |> results() |> Enum.reduce(shown, &show/2)
    clear(shown)
    ended(shown.step.failed, all, length(faults))
  end

  defp results(flags) do
    results = flags.paths |> Enum.map(&{:path, &1}) |> ranked(flags)

    if flags.html,
      do: Thumbnails.add(results),
      else: Stream.map(results, fn {picture, result} -> {picture, result, nil} end)
  end

  defp show({{:path, path}, result, jpeg}, shown) do
    clear(shown)
    IO.binwrite(Rows.row(shown.rows, path, result))
    if shown.page, do: Gallery.add(shown.page, path, jpeg, result)
    with {:error, error} <- result, do: path |> named(error) |> tell(shown.beside)
    failed = if match?({:error, _}, result), do: 1, else: 0
    step = %{shown.step | done: shown.step.done + 1, failed: shown.step.failed + failed}
    shown = %{shown | step: step, progress: Progress.update(shown.progress, step, now())}
    draw(shown)
    shown
  end

  # A wildcard that matches nothing, or a folder that cannot be read, is not a picture.
  defp ended(0, _all, 0), do: :ok
  defp ended(0, _all, faults), do: {:error, "#{searched(faults)}; the reasons are above"}

  defp ended(failed, all, faults) do
    more = if faults > 0, do: ", and #{searched(faults)}"
    {:error, "#{failed} of #{all} could not be classified#{more}; the reasons are above"}
  end

  defp searched(1), do: "1 folder or wildcard gave no pictures"
  defp searched(count), do: "#{count} folders or wildcards gave no pictures"
end
