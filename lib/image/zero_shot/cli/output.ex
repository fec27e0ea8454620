defmodule Image.ZeroShot.CLI.Output do
  @moduledoc false

  # How tasks write: results byte by byte to the standard output, all else to the standard error.

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Hub.Progress

  @doc """
  File names are bytes: whatever the locale, they leave as they are.
  """
  @spec in_bytes((... -> result)) :: result when result: term()
  def in_bytes(function) do
    case :io.getopts() do
      [_ | _] = before ->
        :ok = :io.setopts(encoding: :latin1)

        try do
          function.()
        after
          :io.setopts(Keyword.take(before, [:encoding]))
        end

      _not_to_be_set ->
        function.()
    end
  end

  @spec tell(String.t(), :stdio | :stderr) :: :ok
  def tell(message, :stdio), do: IO.binwrite([one_line(message), "\n"])
  def tell(message, :stderr), do: IO.puts(:stderr, one_line(message))

  @spec one_line(String.t()) :: String.t()
  def one_line(message), do: message |> String.split() |> Enum.join(" ") |> visible()

  @doc """
  Shows characters without a shape as their numbers. `inspect/2` leaves them, and those that turn the
  direction of text make `"gpj.exe"` look like a picture.
  """
  @spec visible(String.t()) :: String.t()
  def visible(text) do
    String.replace(text, ~r/[\p{Cf}\p{Zl}\p{Zp}]/u, fn <<character::utf8>> ->
      "\\x{#{Integer.to_string(character, 16)}}"
    end)
  end

  # Errors about a file begin with its name already.
  @spec named(Path.t(), Error.t()) :: String.t()
  def named(path, %Error{message: message}) do
    name = inspect(path)
    if String.starts_with?(message, name), do: message, else: "#{name}: #{message}"
  end

  # The bar is drawn only on a terminal.
  @spec draw(map()) :: :ok
  def draw(%{columns: nil}), do: :ok

  def draw(shown),
    do: IO.write(shown.beside, Progress.draw(shown.progress, now(), shown.columns))

  @spec clear(map()) :: :ok
  def clear(%{columns: nil}), do: :ok
  def clear(shown), do: IO.write(shown.beside, Progress.clear())

  @spec now() :: integer()
  def now, do: System.monotonic_time(:millisecond)
end
