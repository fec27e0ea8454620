defmodule Image.ZeroShot.Pixels do
  @moduledoc false

  # Pixels out of the structs of Vix and Nx, which are asked for their size before their data.

  @compile {:no_warn_undefined, [Nx, Vix.Vips.Image]}

  alias Image.ZeroShot.{Error, Source}

  # MULTIBAND is what pixels are called that nobody gave a colour space.
  @colour_spaces [
    :VIPS_INTERPRETATION_sRGB,
    :VIPS_INTERPRETATION_RGB,
    :VIPS_INTERPRETATION_B_W,
    :VIPS_INTERPRETATION_MULTIBAND
  ]

  @spec from_vix(struct(), Source.limits()) :: {:ok, Source.source()} | {:error, Error.t()}
  def from_vix(image, limits) do
    # Older versions of Vix give the tensor's shape as width x height: the image itself is asked.
    shape = {
      Vix.Vips.Image.height(image),
      Vix.Vips.Image.width(image),
      Vix.Vips.Image.bands(image)
    }

    with :ok <- colour_space(Vix.Vips.Image.interpretation(image)),
         :ok <- shape(shape, "a Vix.Vips.Image"),
         :ok <- check_size(shape, limits),
         {:ok, tensor} <- written(Vix.Vips.Image.write_to_tensor(image)),
         :ok <- type(tensor.type, "a Vix.Vips.Image", "Image.cast!(image, {:u, 8})") do
      raw(tensor.data, shape)
    end
  end

  @spec from_nx(struct(), Source.limits()) :: {:ok, Source.source()} | {:error, Error.t()}
  def from_nx(tensor, limits) do
    shape = Nx.shape(tensor)

    with :ok <- shape(shape, "an Nx.Tensor"),
         :ok <- type(Nx.type(tensor), "an Nx.Tensor", "Nx.as_type(tensor, :u8)"),
         :ok <- check_size(shape, limits) do
      raw(Nx.to_binary(tensor), shape)
    end
  end

  @doc """
  Holds a shape against `:max_side` and `:max_pixels`.
  """
  @spec check_size({pos_integer(), pos_integer(), pos_integer()}, Source.limits()) ::
          :ok | {:error, Error.t()}
  def check_size({height, width, _channels}, limits) do
    cond do
      height * width > limits.max_pixels ->
        too_large(height, width, "#{limits.max_pixels} pixels", :max_pixels)

      max(height, width) > limits.max_side ->
        too_large(height, width, "#{limits.max_side} pixels a side", :max_side)

      true ->
        :ok
    end
  end

  # In the words of the native library, which checks all limits again.
  defp too_large(height, width, limit, option) do
    Error.error(
      :image_too_large,
      "picture is #{width} x #{height} pixels, the limit is #{limit}; " <>
        "resize it first or raise #{inspect(option)}"
    )
  end

  defp colour_space(interpretation) when interpretation in @colour_spaces, do: :ok

  defp colour_space(interpretation) do
    Error.error(
      :unsupported_image,
      "expected a Vix.Vips.Image in sRGB or grey, got: #{inspect(interpretation)}; " <>
        "convert it with Image.to_colorspace!(image, :srgb)"
    )
  end

  defp shape({height, width, channels}, _what)
       when height > 0 and width > 0 and channels in 1..4,
       do: :ok

  defp shape(shape, what) do
    Error.error(
      :unsupported_image,
      "expected #{what} of height x width x channels with 1 to 4 channels, got: #{inspect(shape)}"
    )
  end

  defp type({:u, 8}, _what, _conversion), do: :ok

  defp type(type, what, conversion) do
    Error.error(
      :unsupported_image,
      "expected #{what} of type {:u, 8}, got: #{inspect(type)}; convert it with #{conversion}"
    )
  end

  defp written({:ok, tensor}), do: {:ok, tensor}

  defp written({:error, reason}) do
    text = if is_binary(reason), do: reason, else: inspect(reason)
    Error.error(:invalid_image, "Vix could not produce the pixels: #{text}")
  end

  defp raw(data, {height, width, channels}), do: {:ok, {:raw, data, height, width, channels}}
end
