defmodule Image.ZeroShot.Picture.Limits do
  @moduledoc false

  # What a picture may cost, checked before the native library copies anything of it. The numbers are
  # options. The sentences of a refusal are the native library's.

  alias Image.ZeroShot.{Error, Native, Source}

  # The native library counts with 64 bits.
  @most 0xFFFF_FFFF_FFFF_FFFF

  @doc """
  Checks the length of a file against `:max_bytes`.
  """
  @spec check_bytes(non_neg_integer(), pos_integer()) :: :ok | {:error, Error.t()}
  def check_bytes(size, max) when size <= max, do: :ok
  def check_bytes(size, max), do: checked(Native.check_picture_bytes(size, max))

  @doc """
  The error for a file that turned out longer than `:max_bytes` while it was read.
  """
  @spec grown(pos_integer()) :: {:error, Error.t()}
  def grown(max), do: checked(Native.check_picture_bytes(nil, max))

  @doc """
  Checks a size against `:max_side` and `:max_pixels`.
  """
  @spec check_size(non_neg_integer(), non_neg_integer(), Source.limits()) ::
          :ok | {:error, Error.t()}
  def check_size(height, width, %{max_pixels: max_pixels, max_side: max_side})
      when height * width <= max_pixels and height <= max_side and width <= max_side,
      do: :ok

  def check_size(height, width, %{max_pixels: max_pixels, max_side: max_side}) do
    size = {min(height, @most), min(width, @most)}
    checked(Native.check_picture_size(size, max_pixels, max_side))
  end

  defp checked(result), do: with({:ok, {}} <- Error.from_native(result), do: :ok)

  @doc """
  Checks the memory of pixels that another library computes against `:max_decode_bytes`.
  """
  @spec check_memory(non_neg_integer(), String.t(), Source.limits()) :: :ok | {:error, Error.t()}
  def check_memory(bytes, _kind, %{max_decode_bytes: max}) when bytes <= max, do: :ok

  def check_memory(bytes, kind, %{max_decode_bytes: max}) do
    Error.error(
      :image_too_large,
      "picture takes #{bytes} bytes of memory (#{kind}), the limit is #{max} bytes; " <>
        "resize it, convert it to 8 bits or raise :max_decode_bytes"
    )
  end
end
