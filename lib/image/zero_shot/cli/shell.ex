defmodule Image.ZeroShot.CLI.Shell do
  @moduledoc false

  # What the Mix tasks do before and after the work of theirs.

  @doc """
  Runs a task with its words and with what is known of the terminal. An error ends it with status 1.
  """
  @spec run([String.t()], ([String.t()], keyword() -> :ok | {:error, String.t()})) :: :ok
  def run(argv, task) do
    configure()
    {:ok, _started} = Application.ensure_all_started(:image_zero_shot)
    log_to_stderr()

    case argv |> Enum.map(&as_typed/1) |> task.(terminal()) do
      :ok -> :ok
      {:error, message} -> Mix.raise(message)
    end
  end

  # Only the configuration: the project itself is not started. Compiling reports on the standard
  # output, which is for results.
  defp configure do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Quiet)
    Mix.Task.run("app.config")
    Mix.shell(shell)
  end

  # Without a locale every byte of an argument has become a character.
  defp as_typed(argument) do
    with :latin1 <- :file.native_name_encoding(),
         bytes when is_binary(bytes) <- :unicode.characters_to_binary(argument, :utf8, :latin1) do
      bytes
    else
      _already -> argument
    end
  end

  # Log lines of a download are not results either. Since Elixir 1.15 the log is a handler of
  # Erlang's, before that it was a backend.
  defp log_to_stderr do
    case :logger.get_handler_config(:default) do
      {:ok, %{module: :logger_std_h, config: %{type: :standard_io}} = handler} ->
        :ok = :logger.remove_handler(:default)
        handler = %{handler | config: %{type: :standard_error}}
        :ok = :logger.add_handler(:default, :logger_std_h, handler)

      _other ->
        # By name: deprecated where it is not needed.
        apply(Logger, :configure_backend, [:console, [device: :standard_error]])
    end
  end

  # Only a terminal has columns; for the standard output Erlang returns those of the input. Where both
  # outputs are one terminal, which allows colours, everything goes to one of them: otherwise a row
  # overtakes the bar that makes room for it.
  defp terminal do
    case {:io.columns(:standard_error), IO.ANSI.enabled?()} do
      {{:ok, columns}, true} -> [columns: columns, beside: :stdio]
      {{:ok, columns}, false} -> [columns: columns]
      {{:error, _no_terminal}, _colours} -> []
    end
  end
end
