defmodule Image.ZeroShot.Picture do
  @moduledoc false

  # From a picture as callers give it to the pixels that a model takes.

  alias Image.ZeroShot.{Error, Source, Stub, Telemetry}
  alias Image.ZeroShot.Call.{Argument, Options}
  alias Image.ZeroShot.Picture.{Limits, Preprocess, Reader}
  alias Image.ZeroShot.Serving.{Admission, Lease}

  @numbers [:u8, :u16, :u32, :u64, :s8, :s16, :s32, :s64, :f16, :bf16, :f32, :f64]

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
    is_binary(bytes) and layout[:number] in @numbers and layout[:scale] in [:told, :bytes] and
      is_boolean(layout[:inks]) and whole?(layout.shape, 2 ** 32) and
      whole?(layout.strides, 2 ** 64)
  end

  defp source?(_other), do: false

  defp whole?(numbers, bound),
    do: numbers |> Tuple.to_list() |> Enum.all?(&(is_integer(&1) and &1 in 0..(bound - 1)))

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
  def pixels(%__MODULE__{given: given} = picture, lease, opts) do
    case prepared(picture, lease, opts, nil) do
      {:ok, _pixels} when is_map_key(lease.info, :stub) -> Stub.Model.pixels(lease, given, opts)
      result -> result
    end
  end

  @doc """
  Same as `pixels/3`, with the facts that show where the model looked; with `view?` also the picture itself.
  """
  @spec shown(t(), Lease.t(), Options.t(), boolean()) ::
          {:ok, Preprocess.shown()} | {:error, Error.t()}
  def shown(%__MODULE__{given: given} = picture, %{info: info} = lease, opts, view?) do
    case prepared(picture, lease, opts, %{patch: info.patch_size, view: view?}) do
      {:ok, shown} when is_map_key(info, :stub) ->
        with {:ok, row} <- Stub.Model.pixels(lease, given, opts),
             do: {:ok, %{shown | pixels: row}}

      result ->
        result
    end
  end

  defp prepared(%{given: given, source: source}, lease, opts, show) do
    %{info: info, decode_until: until, monitor: monitor} = lease

    result =
      Telemetry.span(:preprocess, %{bytes: source |> elem(1) |> byte_size()}, fn ->
        Preprocess.run(source, info.preprocessing, Options.picture(opts), until, monitor, show)
      end)

    with {:error, error} <- Admission.judge(result, lease), do: {:error, explain(error, given)}
  end

  defp explain(error, {:path, path}), do: Error.prefix(error, inspect(path))

  # A file name instead of {:path, name} is the easiest mistake to make. This judges by its looks
  # only: asking whether the file exists would tell a stranger which files there are.
  defp explain(error, bytes) when is_binary(bytes) and bytes != "" do
    if text?(bytes) and not String.contains?(bytes, "\n") do
      name = inspect(bytes, printable_limit: 80)

      way_out =
        Reader.address_hint(bytes) ||
          "a string is taken as the bytes of a picture: to read a file give {:path, #{name}}"

      %{error | message: "#{error.message}; #{way_out}"}
    else
      error
    end
  end

  defp explain(error, _picture), do: error

  @doc """
  Whether a picture looks like a text instead.
  """
  @spec text?(term()) :: boolean()
  def text?(given),
    do: is_binary(given) and byte_size(given) <= 1024 and String.printable?(given)

  defp bad!(picture, answer) do
    raise ArgumentError,
          "expected Image.ZeroShot.Source.prepare/2 to return {:ok, {:encoded, binary}}, " <>
            "{:ok, {:raw, binary, height, width, channels}} or {:error, %Image.ZeroShot.Error{}} " <>
            "for #{Argument.shown(picture)}, got: " <>
            Argument.shown(answer)
  end
end
