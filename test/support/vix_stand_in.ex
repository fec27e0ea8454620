# A stand-in for Vix where it is not there: what the tests and this library use of it, with the
# answers of the real one, on which the same tests pass. Like libvips it computes pixels when they
# are asked for.

unless Code.ensure_loaded?(Vix.Vips.Image) do
  defmodule Vix.Vips.Image do
    @moduledoc false
    defstruct [:ref]

    @bits %{
      VIPS_FORMAT_UCHAR: 8,
      VIPS_FORMAT_CHAR: 8,
      VIPS_FORMAT_USHORT: 16,
      VIPS_FORMAT_SHORT: 16,
      VIPS_FORMAT_UINT: 32,
      VIPS_FORMAT_INT: 32,
      VIPS_FORMAT_FLOAT: 32,
      VIPS_FORMAT_DOUBLE: 64,
      VIPS_FORMAT_COMPLEX: 64
    }

    def new_from_binary(data, width, height, bands, format) do
      if bit_size(data) == width * height * bands * @bits[format],
        do: {:ok, build({width, height, bands}, format, fn -> {:ok, data} end)},
        else: {:error, "failed to create image from memory"}
    end

    @doc false
    def build({width, height, bands}, format, data, more \\ %{}) do
      guesses = %{1 => :VIPS_INTERPRETATION_B_W, 3 => :VIPS_INTERPRETATION_sRGB}

      fields = %{
        "width" => width,
        "height" => height,
        "bands" => bands,
        "format" => format,
        "coding" => :VIPS_CODING_NONE,
        "interpretation" => Map.get(guesses, bands, :VIPS_INTERPRETATION_MULTIBAND)
      }

      %__MODULE__{ref: %{fields: Map.merge(fields, more), data: data}}
    end

    @doc false
    def change(image, fields, data \\ & &1) do
      compute = fn -> with {:ok, old} <- image.ref.data.(), do: {:ok, data.(old)} end
      %__MODULE__{ref: %{fields: Map.merge(image.ref.fields, fields), data: compute}}
    end

    def header_value(%{ref: %{fields: fields}}, name) do
      with :error <- Map.fetch(fields, name), do: {:error, "No such field"}
    end

    for name <- ~w(width height bands format interpretation coding)a do
      def unquote(name)(image) do
        {:ok, value} = header_value(image, unquote(to_string(name)))
        value
      end
    end

    def write_to_binary(%{ref: %{data: data}}) do
      with {:error, _} <- data.(), do: {:error, "Failed to write extracted region to memory"}
    end

    def mutate(image, fun) do
      {:ok, agent} = Agent.start_link(fn -> %{} end)
      fun.(agent)
      {:ok, change(image, Agent.get(agent, & &1))}
    end
  end

  defmodule Vix.Vips.MutableImage do
    @moduledoc false
    def set(agent, name, type, value) when type in [:gint, :VipsBlob],
      do: Agent.update(agent, &Map.put(&1, name, value))
  end

  defmodule Vix.Vips.Operation do
    @moduledoc false

    alias Vix.Vips.Image

    @profile "icc-profile-data"
    @colours %{"GRAY" => 1, "RGB " => 3, "CMYK" => 4}

    # Those that libvips finds no route from to sRGB, whatever the samples.
    @no_picture [:VIPS_INTERPRETATION_MATRIX, :VIPS_INTERPRETATION_FOURIER]

    def copy(image, interpretation: space),
      do: {:ok, Image.change(image, %{"interpretation" => space})}

    def black(width, height, bands: bands) do
      {:ok,
       Image.build({width, height, bands}, :VIPS_FORMAT_UCHAR, fn ->
         {:ok, :binary.copy(<<0>>, width * height * bands)}
       end)}
    end

    def extract_area(image, 0, 0, width, height) do
      if width == Image.width(image) and height <= Image.height(image) do
        {:ok,
         Image.change(image, %{"height" => height}, fn data ->
           binary_part(data, 0, div(byte_size(data), Image.height(image)) * height)
         end)}
      else
        {:error, "extract_area: bad extract area"}
      end
    end

    def extract_band(image, 0, n: count) do
      bands = Image.bands(image)

      if count <= bands do
        {:ok,
         Image.change(image, %{"bands" => count}, fn data ->
           data |> samples(Image.format(image)) |> Enum.chunk_every(bands) |> taken(image, count)
         end)}
      else
        {:error, "extract_band: bad extract band"}
      end
    end

    defp taken(pixels, image, count),
      do: pixels |> Enum.flat_map(&Enum.take(&1, count)) |> binary(Image.format(image))

    # Fractions are cut off.
    def cast(image, :VIPS_FORMAT_USHORT = format) do
      {:ok,
       Image.change(image, %{"format" => format}, fn data ->
         for(s <- samples(data, Image.format(image)), do: s |> trunc() |> max(0) |> min(65_535))
         |> binary(format)
       end)}
    end

    def msb(image) do
      {:ok,
       Image.change(image, %{"format" => :VIPS_FORMAT_UCHAR}, fn data ->
         for <<sample::16-native <- data>>, into: "", do: <<div(sample, 256)>>
       end)}
    end

    # Of the colour spaces that libvips converts, one.
    def colourspace(image, :VIPS_INTERPRETATION_sRGB = srgb) do
      case Image.interpretation(image) do
        :VIPS_INTERPRETATION_scRGB ->
          fields = %{"interpretation" => srgb, "format" => :VIPS_FORMAT_UCHAR}

          {:ok,
           Image.change(image, fields, fn data ->
             for s <- samples(data, :VIPS_FORMAT_FLOAT), into: "", do: <<gamma(s)>>
           end)}

        space when space in @no_picture ->
          {:error, "operation build: vips_colourspace: no known route from '#{space}' to 'srgb'"}
      end
    end

    # Not by any profile, but by squares, so that what was converted can be told from what was not.
    # The kind of the profile has to be that of the pixels, as libvips before 8.16 has it.
    def icc_transform(image, "srgb", embedded: true, intent: :VIPS_INTENT_RELATIVE) do
      {:ok, <<_::16-bytes, kind::4-bytes, _::binary>>} = Image.header_value(image, @profile)
      colours = @colours[kind]
      bands = Image.bands(image)

      if (bands - colours) in 0..1 do
        fields = %{
          "bands" => bands - colours + 3,
          "format" => :VIPS_FORMAT_UCHAR,
          "interpretation" => :VIPS_INTERPRETATION_sRGB
        }

        {:ok,
         Image.change(image, fields, fn data ->
           for pixel <- data |> samples(Image.format(image)) |> Enum.chunk_every(bands),
               into: "",
               do: converted(Enum.split(pixel, colours), Image.format(image))
         end)}
      else
        {:error, "icc_import: unable to load or find any compatible input profile"}
      end
    end

    defp converted({colours, alpha}, format) do
      highest = if format == :VIPS_FORMAT_USHORT, do: 65_535, else: 255
      squares = for level <- colours, do: round(level * level * 255 / (highest * highest))
      alpha = for level <- alpha, do: div(level * 255, highest)

      rgb =
        case squares do
          [grey] -> [grey, grey, grey]
          [c, m, y, _k] -> [255 - c, 255 - m, 255 - y]
          rgb -> rgb
        end

      :binary.list_to_bin(rgb ++ alpha)
    end

    defp gamma(light) when light <= 0.0031308, do: round(255 * 12.92 * max(light, 0.0))
    defp gamma(light), do: round(255 * (1.055 * :math.pow(min(light, 1.0), 1 / 2.4) - 0.055))

    defp samples(data, :VIPS_FORMAT_UCHAR), do: :binary.bin_to_list(data)
    defp samples(data, :VIPS_FORMAT_USHORT), do: for(<<s::16-native <- data>>, do: s)
    defp samples(data, :VIPS_FORMAT_FLOAT), do: for(<<s::float-32-native <- data>>, do: s)

    defp binary(samples, format), do: for(s <- samples, into: "", do: sample(s, format))

    defp sample(s, :VIPS_FORMAT_UCHAR), do: <<s>>
    defp sample(s, :VIPS_FORMAT_USHORT), do: <<s::16-native>>
    defp sample(s, :VIPS_FORMAT_FLOAT), do: <<s::float-32-native>>
  end
end
