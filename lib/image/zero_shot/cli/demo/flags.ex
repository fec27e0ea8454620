defmodule Image.ZeroShot.CLI.Demo.Flags do
  @moduledoc false

  # From the command line of `mix zero_shot.demo` to what the page begins with.

  alias Image.ZeroShot.CLI

  @switches [
    port: :integer,
    pictures: :string,
    index: :string,
    labels: :keep,
    labels_file: :keep,
    template: :string,
    repo: :string,
    device: :string,
    precision: :string
  ]

  @task "zero_shot.demo"
  @port 4848
  @labels 8
  @template "a photo of {label}"

  @type t :: %{
          port: :inet.port_number(),
          folder: Path.t(),
          index: Path.t() | :memory | nil,
          labels: [String.t(), ...],
          template: String.t(),
          opts: keyword()
        }

  @spec parse([String.t()]) :: {:ok, t()} | {:error, String.t()}
  def parse(argv) do
    with {:ok, flags} <- words(argv),
         {:ok, port} <- port(Keyword.get(flags, :port, @port)),
         {:ok, index} <- CLI.Flags.written("--index", flags[:index], ~w(.index)),
         {:ok, folder, index} <- folder(flags[:pictures], index),
         {:ok, labels} <- CLI.Flags.labels(flags),
         {:ok, template} <- template(Keyword.get(flags, :template, @template)),
         {:ok, model} <- CLI.Flags.model(flags) do
      {:ok,
       %{
         port: port,
         folder: folder,
         index: index,
         labels: if(labels == [], do: sample_labels(), else: labels),
         template: template,
         opts: model
       }}
    end
  end

  defp words(argv) do
    case CLI.Switches.parse(argv, @switches, @task) do
      {:ok, flags, []} ->
        {:ok, flags}

      {:ok, _flags, [word | _]} ->
        {:error, "expected only flags, got: #{word}; #{CLI.Switches.usage(@switches, @task)}"}

      {:error, message} ->
        {:error, message}
    end
  end

  defp port(port) when port in 0..65_535, do: {:ok, port}
  defp port(port), do: {:error, "expected --port to be a number from 0 to 65535, got: #{port}"}

  # The pictures that come with the library are few, and nothing of theirs is written.
  defp folder(nil, nil), do: {:ok, samples(""), :memory}

  defp folder(nil, _index),
    do:
      {:error,
       "expected --pictures DIR together with --index, which keeps the index of those pictures"}

  defp folder(folder, index) do
    if File.dir?(folder),
      do: {:ok, folder, index},
      else: {:error, "expected --pictures to be a folder, got: #{inspect(folder)}"}
  end

  defp samples(name),
    do: :image_zero_shot |> Application.app_dir("priv/samples") |> Path.join(name)

  # Each of the first fits one of the pictures, the others none.
  defp sample_labels do
    "labels.txt"
    |> samples()
    |> File.read!()
    |> String.split("\n", trim: true)
    |> Enum.take(@labels)
  end

  defp template(text),
    do: with({:ok, _option} <- CLI.Flags.template(template: text), do: {:ok, text})
end
