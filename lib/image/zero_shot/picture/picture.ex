defmodule Image.ZeroShot.Picture do
  @moduledoc false

  # From a picture as callers give it to the pixels that a model takes.

  alias Image.ZeroShot.{Error, Source, Telemetry}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Picture.{Limits, Preprocess}
  alias Image.ZeroShot.Serving.{Admission, Lease}

  @kinds "a picture is the bytes of an image file, {:path, path}, {:rgb, binary, height, width}, " <>
           "a Vix.Vips.Image, an Nx.Tensor of height x width x channels, or a struct that " <>
           "implements Image.ZeroShot.Source"

  @enforce_keys [:given, :source]
  defstruct [:given, :source]

  @type t :: %__MODULE__{given: term(), source: Source.source()}

  @doc """
  Finds the bytes or the pixels of a picture, without decoding anything.
  """
  @spec open(term(), Options.t()) :: {:ok, t()} | {:error, Error.t()}
  def open(given, opts) do
    with {:ok, source} <- prepare(given, opts),
         :ok <- within(source, opts),
         do: {:ok, %__MODULE__{given: given, source: source}}
  end

  defp prepare(given, opts) do
    case Source.prepare(given, opts) do
      {:ok, source} -> if source?(source), do: {:ok, source}, else: bad!(given, source)
      {:error, %Error{}} = error -> error
      other -> bad!(given, other)
    end
  end

  defp source?({:encoded, bytes}), do: is_binary(bytes)

  defp source?({:raw, bytes, height, width, channels}) do
    is_binary(bytes) and Enum.all?([height, width, channels], &(is_integer(&1) and &1 >= 0))
  end

  defp source?({:numbers, bytes, %{shape: {_, _, _}, strides: {_, _, _}} = layout}) do
    is_binary(bytes) and Enum.all?([:number, :scale, :inks], &is_map_key(layout, &1)) and
      [layout.shape, layout.strides]
      |> Enum.flat_map(&Tuple.to_list/1)
      |> Enum.all?(&(is_integer(&1) and &1 >= 0))
  end

  defp source?(_other), do: false

  defp within({:encoded, bytes}, %{max_bytes: max}),
    do: bytes |> byte_size() |> Limits.check_bytes(max)

  defp within({:raw, _bytes, height, width, _channels}, opts),
    do: Limits.check_size(height, width, opts)

  defp within({:numbers, _bytes, %{shape: {height, width, _channels}}}, opts),
    do: Limits.check_size(height, width, opts)

  @doc """
  Returns the pixels for the lease's model: u8, 3 x height x width, resized and cropped.

  Waits for them as long as the lease lasts.
  """
  @spec pixels(t(), Lease.t(), Options.t()) :: {:ok, binary()} | {:error, Error.t()}
  def pixels(%__MODULE__{given: given, source: source}, lease, opts) do
    %{info: info, decode_until: until, monitor: monitor} = lease

    result =
      Telemetry.span(:preprocess, %{bytes: source |> elem(1) |> byte_size()}, fn ->
        Preprocess.run(source, info.preprocessing, Options.picture(opts), until, monitor)
      end)

    with {:error, error} <- Admission.judge(result, lease),
         do: {:error, explain(error, given)}
  end

  @doc """
  Reads a regular file of at most `max` bytes.
  """
  @spec read(Path.t(), pos_integer()) :: {:ok, Source.source()} | {:error, Error.t()}
  def read(path, max) do
    with :ok <- regular(path, max),
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

  # Anything but a regular file may block forever, or have no end.
  defp regular(path, max) do
    case path |> stat() |> posix(path) do
      {:ok, %{type: :regular, size: size}} ->
        size |> Limits.check_bytes(max) |> named(path)

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

  defp explain(error, {:path, path}), do: Error.prefix(error, inspect(path))

  # A file name instead of {:path, name} is the easiest mistake to make. This judges by its looks
  # only: asking whether the file exists would tell a stranger which files there are.
  defp explain(error, bytes) when is_binary(bytes) and byte_size(bytes) in 1..1024 do
    if String.printable?(bytes) and not String.contains?(bytes, "\n") do
      name = inspect(bytes, printable_limit: 80)

      hint = "; a string is taken as the bytes of a picture: to read a file give {:path, #{name}}"
      %{error | message: error.message <> hint}
    else
      error
    end
  end

  defp explain(error, _picture), do: error

  defp bad!(picture, answer) do
    raise ArgumentError,
          "expected Image.ZeroShot.Source.prepare/2 to return {:ok, {:encoded, binary}}, " <>
            "{:ok, {:raw, binary, height, width, channels}} or {:error, %Image.ZeroShot.Error{}} " <>
            "for #{inspect(picture, limit: 5, printable_limit: 80)}, got: " <>
            inspect(answer, limit: 5, printable_limit: 80)
  end
end
