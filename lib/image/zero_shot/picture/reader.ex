defmodule Image.ZeroShot.Picture.Reader do
  @moduledoc false

  # The bytes of a file, and the error for what is not a picture at all.

  alias Image.ZeroShot.{Error, Source}
  alias Image.ZeroShot.Picture.Limits

  @kinds "a picture is the bytes of an image file, {:path, path}, {:rgb, binary, height, width}, " <>
           "a Vix.Vips.Image, an Nx.Tensor of height x width x channels, or a struct that " <>
           "implements Image.ZeroShot.Source"

  @doc """
  Reads a regular file of at most `max` bytes.
  """
  @spec read(Path.t(), pos_integer()) :: {:ok, Source.source()} | {:error, Error.t()}
  def read(path, max) do
    with {:ok, _size} <- check(path, max),
         {:ok, bytes} <- path |> bounded_read(max + 1) |> posix(path) do
      if byte_size(bytes) <= max,
        do: {:ok, {:encoded, bytes}},
        else: max |> Limits.grown() |> named(path)
    end
  end

  @spec refuse(term()) :: {:error, Error.t()}
  def refuse(term) do
    got = inspect(term, limit: 5, printable_limit: 80)
    Error.error(:unsupported_image, "expected a picture, got: #{got}; #{@kinds}")
  end

  @doc """
  Whether `read/2` would begin to read. Anything but a regular file may block forever, or have no end.
  """
  @spec check(Path.t(), pos_integer()) :: {:ok, non_neg_integer()} | {:error, Error.t()}
  def check(path, max) do
    case path |> stat() |> posix(path) do
      {:ok, %{type: :regular, size: size}} ->
        with :ok <- size |> Limits.check_bytes(max) |> named(path), do: {:ok, size}

      {:ok, %{type: :directory}} ->
        Error.error(:io, "#{inspect(path)}: is a directory")

      {:ok, %{type: type}} ->
        Error.error(:io, "#{inspect(path)}: is not a regular file (#{type})")

      {:error, error} ->
        {:error, error}
    end
  end

  defp named({:error, error}, path), do: {:error, Error.prefix(error, inspect(path))}
  defp named(:ok, _path), do: :ok

  # Path functions raise for a NUL byte in some versions of Elixir and not in others.
  defp stat(path), do: if(path =~ <<0>>, do: {:error, :enoent}, else: File.stat(path))

  # The limit holds for what is read, since a file can grow after it was looked at.
  defp bounded_read(path, max) do
    with {:ok, file} <- :file.open(path, [:read, :raw, :binary]) do
      try do
        read_all(file, max, [])
      after
        :file.close(file)
      end
    end
  end

  defp read_all(_file, 0, chunks), do: {:ok, finish(chunks)}

  defp read_all(file, left, chunks) do
    case :file.read(file, min(left, 1_048_576)) do
      {:ok, chunk} -> read_all(file, left - byte_size(chunk), [chunk | chunks])
      :eof -> {:ok, finish(chunks)}
      {:error, reason} -> {:error, reason}
    end
  end

  defp finish(chunks), do: chunks |> Enum.reverse() |> IO.iodata_to_binary()

  defp posix({:ok, value}, _path), do: {:ok, value}

  defp posix({:error, :enoent}, path),
    do: Error.error(:not_found, "#{inspect(path)}: no such file")

  defp posix({:error, reason}, path),
    do: Error.error(:io, "#{inspect(path)}: #{:file.format_error(reason)}")
end
