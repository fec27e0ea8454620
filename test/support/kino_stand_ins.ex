# Stand-ins for what the notebooks use of Kino, with its shapes and its refusals, only where it is not there. They
# show nothing: `Image.ZeroShot.Test.Notebook` reads what a cell gave.

unless Code.ensure_loaded?(Kino) do
  defmodule Kino.Input do
    @moduledoc false
    defstruct [:id, :attrs]

    def text(label, opts \\ []), do: new(:text, label, to_string(opts[:default]), opts)
    def textarea(label, opts \\ []), do: new(:textarea, label, to_string(opts[:default]), opts)
    def checkbox(label, opts \\ []), do: new(:checkbox, label, opts[:default] || false, opts)
    def image(label, opts \\ []), do: new(:image, label, nil, opts)

    def select(label, [{first, _} | _] = options, opts \\ []) do
      for {_value, text} <- options, do: true = is_binary(text)
      new(:select, label, Keyword.get(opts, :default, first), opts)
    end

    defp new(type, label, default, opts) when is_binary(label) do
      Keyword.validate!(opts, [:default, :debounce, :format, :size, :fit, :monospace])
      %__MODULE__{id: make_ref(), attrs: %{type: type, label: label, default: default}}
    end

    # The test sets values by label. As in Livebook, an input has to be on the page.
    def read(%__MODULE__{id: id, attrs: attrs}) do
      unless id in Process.get(:rendered, []),
        do: raise("failed to read input value, input not found.")

      Map.get(Process.get(:inputs, %{}), attrs.label, attrs.default)
    end

    def file_path({:file, path}), do: path
  end

  defmodule Kino.Image do
    @moduledoc false
    defstruct [:content, :mime_type]

    def new(content, type) when is_binary(content) and type in [:png, :jpeg],
      do: %__MODULE__{content: content, mime_type: "image/#{type}"}

    def new(content, :pixel), do: new(content, "image/x-pixel")

    def new(content, "image/" <> _ = type) when is_binary(content),
      do: %__MODULE__{content: content, mime_type: type}
  end

  defmodule Kino.Text do
    @moduledoc false
    defstruct [:text]
    def new(text) when is_binary(text), do: %__MODULE__{text: text}
  end

  defmodule Kino.DataTable do
    @moduledoc false
    defstruct [:rows, :name]

    def new([%{} | _] = rows, opts) do
      Keyword.validate!(opts, [:keys, :name])
      %__MODULE__{rows: Enum.map(rows, &Map.take(&1, opts[:keys])), name: opts[:name]}
    end
  end

  defmodule Kino.Layout do
    @moduledoc false
    defstruct [:items, :columns]

    def grid(items, opts \\ []) when is_list(items) do
      opts = Keyword.validate!(opts, columns: 1, boxed: false, gap: 8, max_height: nil)
      %__MODULE__{items: items, columns: opts[:columns]}
    end
  end

  defmodule Kino.Frame do
    @moduledoc false
    defstruct [:id]
    def new, do: %__MODULE__{id: make_ref()}

    def render(%__MODULE__{id: id}, term) do
      Process.put({:frame, id}, term)
      :ok
    end
  end

  defmodule Kino.Control do
    @moduledoc false
    defstruct [:fields]

    def form([_ | _] = fields, opts) do
      true =
        Enum.all?(fields, fn {name, input} -> is_atom(name) and input.__struct__ == Kino.Input end)

      true = opts[:submit] != nil or opts[:report_changes] == true
      %__MODULE__{fields: fields}
    end
  end

  defmodule Kino do
    @moduledoc false

    # What the form tells is for the test to say.
    def listen(%Kino.Control{} = control, function) when is_function(function, 1) do
      Process.put(:listener, {control, function})
      self()
    end
  end
end
