defmodule Image.ZeroShot.Picture.Limits do
  @moduledoc false

  # What a picture may cost, checked before the native library copies anything of it. That checks all
  # limits again; both say the same sentence, which a test compares. The numbers are options.

  alias Image.ZeroShot.{Error, Source}

  @doc """
  Checks the length of a file against `:max_bytes`.
  """
  @spec check_bytes(non_neg_integer(), pos_integer()) :: :ok | {:error, Error.t()}
  def check_bytes(size, max) when size <= max, do: :ok
  def check_bytes(size, max), do: too_long("#{size}", max)

  @doc """
  The error for a file that turned out longer than `:max_bytes` while it was read.
  """
  @spec grown(pos_integer()) :: {:error, Error.t()}
  def grown(max), do: too_long("more than #{max}", max)

  @doc """
  Checks a size against `:max_side` and `:max_pixels`.
  """
  @spec check_size(non_neg_integer(), non_neg_integer(), Source.limits()) ::
          :ok | {:error, Error.t()}
  def check_size(height, width, %{max_pixels: max_pixels, max_side: max_side}) do
    size = "is #{width} x #{height} pixels"

    cond do
      height * width > max_pixels ->
        exceeded(size, "#{max_pixels} pixels", "resize it first or raise :max_pixels")

      max(height, width) > max_side ->
        exceeded(size, "#{max_side} pixels a side", "resize it first or raise :max_side")

      true ->
        :ok
    end
  end

  @doc """
  Checks the memory of pixels that another library computes against `:max_decode_bytes`.
  """
  @spec check_memory(non_neg_integer(), String.t(), Source.limits()) :: :ok | {:error, Error.t()}
  def check_memory(bytes, _kind, %{max_decode_bytes: max}) when bytes <= max, do: :ok

  def check_memory(bytes, kind, %{max_decode_bytes: max}) do
    exceeded(
      "takes #{bytes} bytes of memory (#{kind})",
      "#{max} bytes",
      "resize it, convert it to 8 bits or raise :max_decode_bytes"
    )
  end

  defp too_long(size, max) do
    exceeded("is #{size} bytes long", "#{max} bytes", "compress it or raise :max_bytes")
  end

  defp exceeded(what, limit, way_out),
    do: Error.error(:image_too_large, "picture #{what}, the limit is #{limit}; #{way_out}")
end
