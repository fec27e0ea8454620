defmodule Image.ZeroShot.Picture.Pixels do
  @moduledoc false

  # What the readers of pixels share: layouts, and errors of other libraries.

  alias Image.ZeroShot.{Error, Source}
  alias Image.ZeroShot.Picture.Limits

  @type shape ::
          {height :: non_neg_integer(), width :: non_neg_integer(), channels :: pos_integer()}

  @channels %{grey: 1, rgb: 3, rgba: 4}

  @doc """
  Checks pixels given as `{kind, binary, height, width}`, one byte a channel.
  """
  @spec of_binary(:grey | :rgb | :rgba, binary(), term(), term(), Source.limits()) ::
          {:ok, Source.source()} | {:error, Error.t()}
  def of_binary(kind, data, height, width, limits)
      when is_integer(height) and height > 0 and is_integer(width) and width > 0 do
    channels = @channels[kind]
    expected = height * width * channels

    with :ok <- Limits.check_size(height, width, limits) do
      if byte_size(data) == expected do
        {:ok, {:raw, data, height, width, channels}}
      else
        Error.error(
          :invalid_image,
          "expected the binary of {#{inspect(kind)}, binary, #{height}, #{width}} to hold " <>
            "#{expected} bytes (height #{height} x width #{width} x #{channels}), " <>
            "got: #{byte_size(data)}"
        )
      end
    end
  end

  def of_binary(kind, _data, height, width, _limits) do
    Error.error(
      :invalid_image,
      "expected height and width of {#{inspect(kind)}, binary, height, width} to be positive " <>
        "integers, got: #{inspect(height)} and #{inspect(width)}"
    )
  end

  @doc """
  Returns numbers as the native library takes them. Bytes in the usual order need no conversion.
  """
  @spec source(binary(), Source.layout()) :: Source.source()
  def source(data, %{number: :u8, inks: false, shape: shape, strides: strides} = layout) do
    {height, width, channels} = shape

    if strides == strides(shape),
      do: {:raw, data, height, width, channels},
      else: {:numbers, data, layout}
  end

  def source(data, layout), do: {:numbers, data, layout}

  @doc """
  Returns the strides of the usual order: height, width, channels.
  """
  @spec strides(shape()) :: {pos_integer(), pos_integer(), pos_integer()}
  def strides({_height, width, channels}), do: {width * channels, channels, 1}

  @doc """
  Calls another library and turns whatever it raises into an error.
  """
  @spec guard(String.t(), (... -> result)) :: result | {:error, Error.t()} when result: term()
  def guard(library, fun) do
    fun.()
  catch
    kind, reason ->
      text = Exception.format_banner(kind, reason, __STACKTRACE__)
      Error.error(:invalid_image, "#{library} could not produce the pixels: #{text}")
  end
end
