defmodule Image.ZeroShot.Picture.VixImage do
  @moduledoc false

  # Reads the pixels of a `Vix.Vips.Image` once its size is within the limits.
  #
  # libvips converts pixels in strips while it writes them, without the memory of a second picture.
  # The native library converts what libvips would not convert as our decoders do: inks, and numbers
  # that are not bytes.

  @compile {:no_warn_undefined, [Vix.Vips.Image, Vix.Vips.Operation]}

  alias Image.ZeroShot.{Error, Source}
  alias Image.ZeroShot.Picture.{Limits, Pixels}
  alias Vix.Vips.Image, as: Vimage
  alias Vix.Vips.Operation

  # Count to 255. MULTIBAND is for pixels without a colour space.
  @plain [
    :VIPS_INTERPRETATION_sRGB,
    :VIPS_INTERPRETATION_RGB,
    :VIPS_INTERPRETATION_B_W,
    :VIPS_INTERPRETATION_MULTIBAND
  ]

  # Count to 65535, unless their samples are bytes.
  @wide [:VIPS_INTERPRETATION_RGB16, :VIPS_INTERPRETATION_GREY16]
  @bytes [:VIPS_FORMAT_UCHAR, :VIPS_FORMAT_CHAR]

  @profile "icc-profile-data"

  @numbers %{
    VIPS_FORMAT_UCHAR: {:u8, 1},
    VIPS_FORMAT_CHAR: {:s8, 1},
    VIPS_FORMAT_USHORT: {:u16, 2},
    VIPS_FORMAT_SHORT: {:s16, 2},
    VIPS_FORMAT_UINT: {:u32, 4},
    VIPS_FORMAT_INT: {:s32, 4},
    VIPS_FORMAT_FLOAT: {:f32, 4},
    VIPS_FORMAT_DOUBLE: {:f64, 8}
  }

  @spec read(struct(), Source.limits()) :: {:ok, Source.source()} | {:error, Error.t()}
  def read(image, limits) do
    Pixels.guard("Vix", fn ->
      height = page_height(image)

      with :ok <- Limits.check_size(height, Vimage.width(image), limits),
           {:ok, page} <- first_page(image, height),
           {:ok, page} <- by_profile(page, limits),
           {:ok, kind, page} <- convert(page),
           {:ok, number} <- number(page, limits),
           {:ok, data} <- write(page) do
        {:ok, Pixels.source(data, layout(page, number, kind == :inks))}
      end
    end)
  end

  defp layout(image, number, inks?) do
    shape = shape(image)
    %{number: number, scale: :bytes, shape: shape, strides: Pixels.strides(shape), inks: inks?}
  end

  defp shape(image), do: {Vimage.height(image), Vimage.width(image), Vimage.bands(image)}

  # Pages are stacked. The field may be left over from before the image was cut, so it counts only
  # where it divides the height, as in libvips.
  defp page_height(image) do
    height = Vimage.height(image)

    case Vimage.header_value(image, "page-height") do
      {:ok, page} when page > 0 and page < height and rem(height, page) == 0 -> page
      _none -> height
    end
  end

  defp first_page(image, height) do
    if height == Vimage.height(image),
      do: {:ok, image},
      else: run(image, &Operation.extract_area(&1, 0, 0, Vimage.width(&1), height))
  end

  defp by_profile(image, %{color_profile: :ignore}), do: {:ok, image}

  # A profile for pixels of another kind does not count, as with files. Spaces such as Lab are the
  # same on every device, so a profile in them is left over from before.
  defp by_profile(image, %{color_profile: :srgb}) do
    with {:ok, profile} <- Vimage.header_value(image, @profile),
         true <- Vimage.coding(image) == :VIPS_CODING_NONE,
         {:ok, kind} <- profile_kind(profile) do
      if kind == kind(image), do: to_srgb_by_profile(image), else: {:ok, image}
    else
      {:error, %Error{}} = error -> error
      _none -> {:ok, image}
    end
  end

  defp profile_kind(<<_::16-bytes, kind::4-bytes, _::16-bytes, "acsp", _::binary>>),
    do: {:ok, kind}

  defp profile_kind(_other), do: bad_profile("it is not an ICC profile")

  defp bad_profile(why) do
    Error.error(
      :invalid_image,
      "cannot convert a Vix.Vips.Image by its colour profile: #{why}; read it without its " <>
        "profile with color_profile: :ignore"
    )
  end

  defp kind(image) do
    case {Vimage.interpretation(image), Vimage.bands(image)} do
      {:VIPS_INTERPRETATION_CMYK, bands} when bands >= 4 ->
        "CMYK"

      {space, bands} when space in @plain or space in @wide ->
        if bands < 3, do: "GRAY", else: "RGB "

      _other ->
        nil
    end
  end

  defp to_srgb_by_profile(image) do
    opts = [embedded: true, intent: :VIPS_INTENT_RELATIVE]

    with {:error, reason} <- Operation.icc_transform(image, "srgb", opts),
         do: bad_profile(text(reason))
  end

  # `:inks` is CMYK, `:colours` grey or RGB, each with alpha or without.
  defp convert(image) do
    space = Vimage.interpretation(image)
    bytes? = Vimage.format(image) in @bytes

    cond do
      space == :VIPS_INTERPRETATION_CMYK -> inks(image)
      Vimage.coding(image) != :VIPS_CODING_NONE -> colours(image, &to_srgb/1)
      space in @wide and not bytes? -> colours(image, &high_byte/1)
      space in @wide or space in @plain -> colours(image, &{:ok, &1})
      true -> colours(image, &to_srgb/1)
    end
  end

  defp to_srgb(image), do: Operation.colourspace(image, :VIPS_INTERPRETATION_sRGB)

  # Keeps the high 8 of 16 bits without rounding, as our decoders do.
  defp high_byte(image) do
    with {:ok, wide} <- Operation.cast(image, :VIPS_FORMAT_USHORT), do: Operation.msb(wide)
  end

  defp colours(image, fun) do
    with {:ok, image} <- run(image, fun) do
      if Vimage.bands(image) in 1..4, do: {:ok, :colours, image}, else: wrong_bands(image)
    end
  end

  # Drops the bands beyond the inks, as Pillow does.
  defp inks(image) do
    wide? = Vimage.format(image) == :VIPS_FORMAT_USHORT

    with true <- Vimage.bands(image) >= 4 || wrong_bands(image),
         {:ok, inks} <- run(image, &Operation.extract_band(&1, 0, n: 4)),
         {:ok, inks} <- if(wide?, do: run(inks, &high_byte/1), else: {:ok, inks}),
         do: {:ok, :inks, inks}
  end

  defp wrong_bands(image) do
    Error.error(
      :unsupported_image,
      "expected a Vix.Vips.Image of 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 bands (RGB, alpha; " <>
        "CMYK), got: #{describe(image)}; take the bands that are colours with " <>
        "Vix.Vips.Operation.extract_band/3"
    )
  end

  defp run(image, fun) do
    with {:error, reason} <- fun.(image) do
      Error.error(
        :unsupported_image,
        "Vix cannot convert this image (#{describe(image)}) to sRGB: #{text(reason)}"
      )
    end
  end

  defp number(image, limits) do
    case @numbers[Vimage.format(image)] do
      nil ->
        Error.error(
          :unsupported_image,
          "expected a Vix.Vips.Image of real numbers, got: #{describe(image)}; " <>
            "take its real part or its magnitude first"
        )

      {number, size} ->
        {height, width, bands} = shape(image)
        kind = "#{width} x #{height} pixels, #{describe(image)}"

        with :ok <- Limits.check_memory(height * width * bands * size, kind, limits),
             do: {:ok, number}
    end
  end

  defp write(image) do
    with {:error, reason} <- Vimage.write_to_binary(image) do
      Error.error(
        :invalid_image,
        "Vix could not produce the pixels (is the file damaged or cut short?): " <>
          "#{text(reason)}#{hint(Vimage.header_value(image, "vips-sequential"))}"
      )
    end
  end

  # Vix says the same of a damaged file as of one that was read before.
  defp hint({:ok, 1}) do
    "; the image was opened for sequential access and can be read once: to read it again, first " <>
      "copy it with Vix.Vips.Image.copy_memory/1"
  end

  defp hint(_random_access), do: ""

  defp describe(image) do
    "VIPS_INTERPRETATION_" <> space = to_string(Vimage.interpretation(image))
    "VIPS_FORMAT_" <> format = to_string(Vimage.format(image))
    "#{Vimage.bands(image)} x #{format}, #{space}"
  end

  defp text(reason) when is_binary(reason), do: reason
  defp text(reason), do: inspect(reason)
end
