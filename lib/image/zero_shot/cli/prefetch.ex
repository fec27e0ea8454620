defmodule Image.ZeroShot.CLI.Prefetch do
  @moduledoc false

  # Fetches the configured model and exports its encoders, for both Mix tasks. Returns instead of
  # halting the VM.

  alias Image.ZeroShot.{Error, Hub}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.CLI.{Flags, Switches}
  alias Image.ZeroShot.Hub.{Progress, Repo}
  alias Image.ZeroShot.Serving.Model

  @flags [
    zero_shot: :boolean,
    repo: :string,
    revision: :string,
    offline_check: :boolean,
    no_export: :boolean
  ]

  @task "image_vision.download_models"

  # Flags of image_vision's task of the same name, for models that this package does not have.
  @elsewhere [
    classify: :boolean,
    segment: :boolean,
    detect: :boolean,
    background: :boolean,
    caption: :boolean
  ]

  @covers "this package has only the models of zero-shot classification"
  # Its other name belongs to image_vision, where both are installed.
  @command "mix download_models --zero-shot"

  @typedoc "Whether the output is a terminal, which can draw a bar."
  @type output :: [terminal: boolean()]

  @spec run([String.t()], output()) :: :ok | {:error, String.t()}
  def run(argv, output \\ []) do
    with {:ok, flags} <- parse(argv),
         {:ok, opts} <- options(flags),
         :ok <- fetch(opts, Keyword.get(output, :terminal, false)),
         :ok <- export(opts, not Keyword.get(flags, :no_export, false)) do
      if flags[:offline_check], do: say("ready, without a network")
      :ok
    else
      {:error, %Error{message: message}} -> {:error, one_line(message)}
      {:error, message} -> {:error, one_line(message)}
    end
  end

  defp parse(argv) do
    case Switches.parse(argv, @flags, @task, @elsewhere) do
      {:ok, flags, []} ->
        covered(flags)

      {:ok, _flags, [word | _]} ->
        {:error, "expected only flags, got: #{word}; #{Switches.usage(@flags, @task)}"}

      {:error, message} ->
        {:error, message}
    end
  end

  defp covered(flags) do
    others = for {name, :boolean} <- @elsewhere, flags[name], do: "--#{name}"

    cond do
      others == [] and flags[:zero_shot] ->
        {:ok, flags}

      others == [] ->
        say("fetching the model for zero-shot classification, the same as #{@command}")
        {:ok, flags}

      flags[:zero_shot] ->
        say("#{Enum.join(others, ", ")}: skipped, #{@covers}")
        {:ok, flags}

      true ->
        {:error,
         "nothing to do for #{Enum.join(others, ", ")}: #{@covers}; fetch one with #{@command}"}
    end
  end

  # A mistake in the configuration gets the same error as one on the command line.
  defp options(flags) do
    given = flags |> Keyword.take([:revision]) |> Keyword.merge(Flags.repo(flags[:repo]))
    offline = if flags[:offline_check], do: [offline: true], else: []
    {:ok, Options.model!(given ++ offline)}
  rescue
    error in ArgumentError -> {:error, Exception.message(error)}
  end

  defp fetch(opts, terminal) do
    case Repo.source(opts) do
      {:directory, directory} ->
        say("model: #{directory}, #{where(opts.repo)}")
        :ok

      {:hub, name, revision, _cache, _endpoint} ->
        say("model: #{name} at #{revision || "main"}")

        with {:ok, snapshot} <- download(opts, terminal) do
          summary(snapshot)
          :ok
        end
    end
  end

  defp where(:embedded), do: "which ships with the library; there is nothing to download"
  defp where({:local, _directory}), do: "on this machine; there is nothing to download"

  # The task waits inside the native library; this process shows how far it is.
  defp download(opts, terminal) do
    watcher = self()
    task = Task.async(fn -> Hub.fetch(opts.repo, hub_options(opts, watcher)) end)
    watch(task, Progress.new(:bytes), if(terminal, do: &draw/2, else: &line/2))
  end

  defp hub_options(opts, watcher) do
    opts
    |> Map.take([:revision, :token, :offline, :hub_cache, :hub_endpoint])
    |> Map.put(:progress, watcher)
    |> Map.to_list()
  end

  defp watch(%Task{ref: ref} = task, progress, show) do
    receive do
      {:hub_progress, step} ->
        progress = Progress.update(progress, step, now())
        watch(task, show.(progress, :step), show)

      {^ref, result} ->
        Process.demonitor(ref, [:flush])
        show.(progress, :end)
        result
    end
  end

  defp line(progress, :end), do: progress

  defp line(progress, :step) do
    {line, progress} = Progress.line(progress, now())
    if line, do: say(line)
    progress
  end

  defp draw(%{since: nil} = nothing_downloaded, :end), do: nothing_downloaded

  # The bar stays where it ended.
  defp draw(progress, :end) do
    IO.write("\n")
    progress
  end

  defp draw(progress, :step) do
    IO.write(Progress.draw(progress, now(), columns()))
    progress
  end

  defp columns do
    case :io.columns() do
      {:ok, columns} -> columns
      {:error, _no_terminal} -> 80
    end
  end

  defp summary(snapshot) do
    {cached, downloaded} = Enum.split_with(snapshot.files, & &1.cached)
    if downloaded != [], do: say("downloaded: #{files(downloaded)}")
    if cached != [], do: say("cached already: #{files(cached)}")
    say("commit: #{snapshot.commit}")
    say("directory: #{snapshot.directory}, #{Progress.size(snapshot.bytes)}")
  end

  defp files(files), do: Enum.map_join(files, ", ", &"#{&1.name} (#{Progress.size(&1.size)})")

  defp export(_opts, false), do: :ok

  # Loading exports the encoders unless they are there.
  defp export(opts, true) do
    with {:ok, model, info} <- Model.open(opts),
         :ok <- Model.close(model),
         do: encoders(info)
  end

  defp encoders(%{encoders: nil, encoders_note: note}),
    do: {:error, "the encoders could not be kept, so each start exports them again: #{note}"}

  defp encoders(%{encoders: encoders}) do
    say("encoders: #{encoders}, #{encoders |> disk() |> Progress.size()}")
  end

  defp disk(directory) do
    directory
    |> Path.join("**")
    |> Path.wildcard()
    |> Enum.map(&File.stat!/1)
    |> Enum.map(&if(&1.type == :regular, do: &1.size, else: 0))
    |> Enum.sum()
  end

  defp say(line), do: IO.puts(line)
  defp one_line(message), do: message |> String.split() |> Enum.join(" ")
  defp now, do: System.monotonic_time(:millisecond)
end
