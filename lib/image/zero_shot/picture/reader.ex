defmodule Image.ZeroShot.Picture.Reader do
  @moduledoc false

  # The bytes of a file, and the error for what is not a picture at all.

  alias Image.ZeroShot.{Error, Source}
  alias Image.ZeroShot.Call.Argument
  alias Image.ZeroShot.Picture.{FileQueue, Limits}

  @kinds "a picture is the bytes of an image file, {:path, path}, {:rgb, binary, height, width}, " <>
           "a Vix.Vips.Image, an Nx.Tensor of height x width x channels, or a struct that " <>
           "implements Image.ZeroShot.Source"

  @doc """
  Reads a regular file of at most `max` bytes, within `timeout` milliseconds.
  """
  @spec read(Path.t(), pos_integer(), timeout()) :: {:ok, Source.source()} | {:error, Error.t()}
  def read(path, max, timeout), do: in_time(path, timeout, fn -> read_here(path, max) end)

  defp in_time(path, timeout, work) do
    with {:error, %Error{reason: reason} = error} when reason in [:timeout, :overloaded] <-
           FileQueue.run(work, timeout),
         do: named({:error, error}, path)
  end

  defp read_here(path, max) do
    with {:ok, _size} <- check_here(path, max),
         {:ok, bytes} <- path |> bounded_read(max + 1) |> posix(path) do
      if byte_size(bytes) <= max,
        do: {:ok, {:encoded, bytes}},
        else: max |> Limits.grown() |> named(path)
    end
  end

  @spec refuse(term()) :: {:error, Error.t()}
  def refuse(term) do
    got = Argument.shown(term)
    Error.error(:unsupported_image, "expected a picture, got: #{got}; #{way_out(term)}")
  end

  defp way_out({:path, _path}), do: "a path is a string"

  defp way_out({:text, _text}),
    do:
      "for a text, classify with scores: :cosine, or give what Image.ZeroShot.embed_text/2 returns"

  defp way_out(_term), do: @kinds

  @doc """
  Whether `read/3` would begin to read. Anything but a regular file may block forever, or have no end.
  """
  @spec check(Path.t(), pos_integer(), timeout()) ::
          {:ok, non_neg_integer()} | {:error, Error.t()}
  def check(path, max, timeout), do: in_time(path, timeout, fn -> check_here(path, max) end)

  defp check_here(path, max) do
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

  # Path functions raise for a NUL byte in some versions of Elixir and not in others. Without `:raw` the
  # VM's only file server would ask, and with it everybody would wait for a file system that hangs.
  defp stat(path) do
    with false <- path =~ <<0>>,
         {:ok, info} <- :file.read_file_info(path, [:raw]) do
      {:ok, File.Stat.from_record(info)}
    else
      true -> {:error, :enoent}
      error -> error
    end
  end

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

  defp posix({:error, reason}, path) do
    error = Error.file(path, reason)
    hint = if reason == :enoent, do: address_hint(path)
    {:error, if(hint, do: %{error | message: "#{error.message}; #{hint}"}, else: error)}
  end

  @doc """
  What to do with an address where a picture is expected, or `nil` if it is none.
  """
  @spec address_hint(String.t()) :: String.t() | nil
  def address_hint(text) do
    if text =~ ~r{\A(https?|ftp|s3|data):}i,
      do: "addresses are not fetched: download the picture first, and give its bytes"
  end
end
