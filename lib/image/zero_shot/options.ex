defmodule Image.ZeroShot.Options do
  @moduledoc false

  # Every option: its default, its type, its limit. An option given in a call wins over
  # `config :image_zero_shot`, which is read anew by each call and wins over the default.

  @app :image_zero_shot
  @placeholder "{label}"

  @model_defaults [
    repo: "openai/clip-vit-base-patch32",
    device: :auto,
    cache_dir: nil
  ]

  @picture_defaults [
    background: nil,
    max_bytes: 25_000_000,
    max_pixels: 50_000_000,
    max_side: 16_384,
    max_decode_bytes: 512 * 1024 * 1024
  ]

  @label_defaults [
    template: "a photo of #{@placeholder}",
    max_labels: 10_000,
    max_label_bytes: 4_096
  ]

  # What the native library counts with; nobody means more.
  @largest_limit 0xFFFF_FFFF

  @type t :: %{required(atom()) => term()}

  @spec classify!(keyword()) :: t()
  def classify!(opts), do: build!(opts, @model_defaults ++ @label_defaults ++ @picture_defaults)

  @spec similarity!(keyword()) :: t()
  def similarity!(opts), do: build!(opts, @model_defaults ++ @picture_defaults)

  @spec model!(keyword()) :: t()
  def model!(opts), do: build!(opts, @model_defaults)

  @spec prompt(String.t() | nil, String.t()) :: String.t()
  def prompt(nil, label), do: label
  def prompt(template, label), do: String.replace(template, @placeholder, label)

  defp build!(opts, defaults) do
    if not Keyword.keyword?(opts) do
      raise ArgumentError, "expected options to be a keyword list, got: #{inspect(opts)}"
    end

    names = Keyword.keys(defaults)
    for name <- Keyword.keys(opts), name not in names, do: unknown!(name, names)
    Map.new(defaults, fn {name, default} -> {name, value!(name, opts, default)} end)
  end

  defp value!(name, opts, default) do
    with :error <- given!(Keyword.fetch(opts, name), name, ""),
         :error <- given!(Application.fetch_env(@app, name), name, " in the config of #{@app}"),
         do: cast!(name, default, "")
  end

  defp given!({:ok, value}, name, where), do: cast!(name, value, where)
  defp given!(:error, _name, _where), do: :error

  defp cast!(name, value, where) do
    case cast(name, value) do
      {:ok, value} ->
        value

      {:error, expected} ->
        raise ArgumentError,
              "expected #{inspect(name)}#{where} to be #{expected}, got: #{inspect(value)}"
    end
  end

  defp unknown!(name, names) do
    nearest = Enum.max_by(names, &String.jaro_distance(to_string(&1), to_string(name)))

    hint =
      if String.jaro_distance(to_string(nearest), to_string(name)) > 0.77,
        do: "Did you mean #{inspect(nearest)}?",
        else: "The options are #{Enum.map_join(names, ", ", &inspect/1)}"

    raise ArgumentError, "unknown option #{inspect(name)}. #{hint}"
  end

  defp cast(:repo, :embedded), do: {:ok, :embedded}

  defp cast(:repo, repo) do
    text =
      case repo do
        {:local, directory} -> directory
        {:hf, name} -> name
        {:hf, name, opts} when is_list(opts) -> name
        name -> name
      end

    if text?(text),
      do: {:ok, repo},
      else: {:error, ":embedded, {:local, directory} or a name such as \"org/name\""}
  end

  defp cast(:template, nil), do: {:ok, nil}

  defp cast(:template, template) do
    if text?(template) and template =~ @placeholder,
      do: {:ok, template},
      else: {:error, "nil or a string that contains #{@placeholder}"}
  end

  defp cast(:device, device) when device in [:auto, :cpu, :cuda, :mps], do: {:ok, device}

  defp cast(:device, {:cuda, index} = device) when index in 0..127, do: {:ok, device}
  defp cast(:device, _), do: {:error, ":auto, :cpu, :cuda, {:cuda, index} or :mps"}

  defp cast(:background, nil), do: {:ok, nil}
  defp cast(:background, :white), do: {:ok, {255, 255, 255}}
  defp cast(:background, :black), do: {:ok, {0, 0, 0}}

  defp cast(:background, {r, g, b} = colour) when r in 0..255 and g in 0..255 and b in 0..255,
    do: {:ok, colour}

  defp cast(:background, _),
    do: {:error, "nil, :white, :black or {red, green, blue} with numbers from 0 to 255"}

  defp cast(:cache_dir, nil), do: {:ok, user_cache()}

  defp cast(:cache_dir, dir),
    do: if(text?(dir), do: {:ok, Path.expand(dir)}, else: {:error, "a directory"})

  defp cast(_limit, number) when is_integer(number) and number in 1..@largest_limit,
    do: {:ok, number}

  defp cast(_limit, _), do: {:error, "a positive integer of at most #{@largest_limit}"}

  # What the native library takes as a string.
  defp text?(term), do: is_binary(term) and term != "" and String.valid?(term)

  defp user_cache, do: @app |> to_string() |> then(&:filename.basedir(:user_cache, &1))
end
