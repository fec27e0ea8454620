defmodule Image.ZeroShot.CLI.Demo do
  @moduledoc false

  # Runs `mix zero_shot.demo`. Returns instead of halting the VM, when the server has ended.

  import Image.ZeroShot.CLI.Output

  alias Image.ZeroShot
  alias Image.ZeroShot.{Error, Index}
  alias Image.ZeroShot.CLI.Demo.{Flags, Pictures, Routes, Server}
  alias Image.ZeroShot.CLI.Search

  @spec run([String.t()], keyword()) :: :ok | {:error, String.t()}
  def run(argv, output \\ []) do
    with {:ok, server} <- start_link(argv, output) do
      IO.puts("The demo is at http://127.0.0.1:#{server.port}\nPress Ctrl-C twice to stop it.")
      monitor = Process.monitor(server.supervisor)
      receive do: ({:DOWN, ^monitor, :process, _server, _reason} -> :ok)
    end
  end

  @doc """
  Loads the model, opens the pictures and starts the server, which ends with the calling process.
  """
  @spec start_link([String.t()], keyword(), map()) :: {:ok, Server.t()} | {:error, String.t()}
  def start_link(argv, output \\ [], limits \\ %{}) do
    with {:ok, flags} <- Flags.parse(argv),
         {:ok, index} <- Search.open(flags, output),
         :ok <- some(index, flags.folder),
         {:ok, info} <- ZeroShot.info(flags.opts) do
      demo = %Routes{
        opts: flags.opts,
        info: info,
        explains: explains?(flags.opts, output),
        labels: flags.labels,
        template: flags.template,
        pictures: Pictures.new(flags.folder, index)
      }

      demo |> Routes.new() |> Server.start_link(flags.port, limits) |> started(flags.port)
    else
      {:error, %Error{message: message}} -> {:error, one_line(message)}
      {:error, message} -> {:error, one_line(message)}
    end
  rescue
    error in [ArgumentError, Error] -> {:error, error |> Exception.message() |> one_line()}
  end

  # Some models refuse: their scores are not a sum over the picture. The page leaves the map out then.
  defp explains?(opts, output) do
    grey = {:rgb, :binary.copy(<<128>>, 3 * 64 * 64), 64, 64}

    case ZeroShot.try_explain(grey, ["a", "b"], [timeout: :infinity] ++ opts) do
      {:ok, _maps} ->
        true

      {:error, error} ->
        tell("maps are left out: #{error.message}", Keyword.get(output, :beside, :stderr))
        false
    end
  end

  defp some(index, folder) do
    if Index.size(index) > 0,
      do: :ok,
      else: {:error, "expected --pictures to be a folder with pictures, got: #{inspect(folder)}"}
  end

  defp started({:ok, server}, _port), do: {:ok, server}

  defp started({:error, reason}, port) do
    why = if reason == :eaddrinuse, do: "it is in use", else: "#{:inet.format_error(reason)}"

    {:error,
     "the demo cannot listen on port #{port}: #{why}; give --port another number, or 0 for any"}
  end
end
